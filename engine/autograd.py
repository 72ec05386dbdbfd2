"""What gradients are kept for: leaves, which are marked in the graph, and whether operations are being followed.

A leaf is a DETACH with a number: no gradient goes beyond it, and two leaves are never one node, even where their
values are. Whether a node needs a gradient is therefore read off the graph, and nothing is recorded beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from weakref import WeakKeyDictionary

from engine.build import detach
from engine.gradient import differentiated
from engine.ir import UOp, toposort
from engine.ops import Op

_numbers = count()
_following: ContextVar[bool] = ContextVar("following", default=True)
_known: WeakKeyDictionary[UOp, bool] = WeakKeyDictionary()


def next_leaf() -> int:
    """A number for a leaf that no other has."""
    return next(_numbers)


def leaf(node: UOp, number: int) -> UOp:
    """`node` as the value of leaf `number`."""
    return UOp(Op.DETACH, node.dtype, (node,), number)


def is_leaf(node: UOp) -> bool:
    """Is the node a leaf's value?"""
    return node.op is Op.DETACH and node.arg is not None


def needs_gradient(root: UOp) -> bool:
    """Does a gradient of the node go to a leaf? Iterative; what was found once is known."""
    for node in toposort(root, enter=lambda n: n not in _known):
        if node not in _known:
            _known[node] = is_leaf(node) or any(_known[source] for source in differentiated(node))
    return _known[root]


def leaves_of(root: UOp) -> list[UOp]:
    """The leaves that a gradient of the node goes to, each once."""
    found: dict[UOp, None] = {}
    stack = [root]
    while stack:
        node = stack.pop()
        if node not in found and needs_gradient(node):
            found[node] = None
            stack.extend(differentiated(node))
    return [node for node in found if is_leaf(node)]


def followed(node: UOp) -> UOp:
    """The node as the result of an operation: under `no_grad` no gradient goes through it."""
    return node if _following.get() or not needs_gradient(node) else detach(node)


def is_following() -> bool:
    """Are operations followed for gradients here: is this outside of `no_grad`?"""
    return _following.get()


is_grad_enabled = is_following  # PyTorch's name


@contextmanager
def enable_grad() -> Iterator[None]:
    """Within it (or in a function decorated with it) results need gradients again, inside a no_grad()."""
    token = _following.set(True)
    try:
        yield
    finally:
        _following.reset(token)


class set_grad_enabled:
    """From here on results need gradients or not; as a context, within it."""

    def __init__(self, mode: bool) -> None:
        self._before = _following.set(mode)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        _following.reset(self._before)


@contextmanager
def no_grad() -> Iterator[None]:
    """Within it (or in a function decorated with it) results need no gradients, whatever they are made of."""
    token = _following.set(False)
    try:
        yield
    finally:
        _following.reset(token)
