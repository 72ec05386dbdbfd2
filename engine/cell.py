"""What a tensor is underneath: a cell that holds a node of the graph, and may come to hold another.

Graphs never change and neither do the elements of a BUFFER; the only thing that does is which node a cell holds. So
whoever sees cells being read and written sees every effect there is: that is how engine.jit finds out what a function
depends on and what it changes. Watching is per thread (a context variable); where nobody watches, it costs a look.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, Self

from engine.ir import UOp


class Watch(Protocol):
    """Stands between cells and their nodes while a function runs. `mark` is put on cells made meanwhile."""

    mark: object

    def read(self, cell: Cell) -> UOp:
        """The node that `cell` is taken to hold."""

    def write(self, cell: Cell, node: UOp) -> None:
        """`cell` is to hold `node`; it may be a new one, which holds nothing yet."""

    def ran(self, step: Any, device: Any) -> None:
        """A step (engine.order.Step) was run on a device."""

    def read_on_host(self, how: str) -> None:
        """The elements of a tensor are asked for by `how`: may raise."""

    def asked(self, owner: Moded) -> None:
        """`owner` was asked whether it trains."""


class Moded(Protocol):
    """What computes one thing while it trains and another when it does not."""

    @property
    def training(self) -> bool:
        """Does it train?"""


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


class Cell:
    """Holds a node. `_held` is the plain field; `_value` is the same as whoever watches would have it."""

    __slots__ = ("__weakref__", "_born", "_gradient", "_held", "_views")
    _born: object  # the mark of the watch during which it was made, if any
    _held: UOp
    _gradient: Self | None
    _views: Any  # the cells that are views of this one, if there were any (engine.tensor.views)
    device: str

    def __new__(cls, *_args: Any, **_options: Any) -> Self:
        cell = super().__new__(cls)
        cell._gradient = cell._views = None
        return cell

    @property
    def _value(self) -> UOp:
        watch = _watch.get()
        return self._held if watch is None else watch.read(self)

    @_value.setter
    def _value(self, node: UOp) -> None:
        watch = _watch.get()
        if watch is None:
            self._held = node
        else:
            watch.write(self, node)

    @property
    def grad(self) -> Self | None:
        """The gradient that `backward` has gathered here; None before it has, and where it never will."""
        self._touch()
        return self._gradient

    @grad.setter
    def grad(self, gradient: Self | None) -> None:
        self._touch()
        self._gradient = gradient

    def _touch(self) -> None:
        """Whoever watches sees the cell before its gradient changes."""
        watch = _watch.get()
        if watch is not None and hasattr(self, "_held"):
            watch.read(self)

    # What graphs are made of: the value, until a subclass marks it.
    _node = _value

    def _replaced(self) -> None:
        """The value was replaced from outside: views of it are to follow."""

    def _computed(self, node: UOp) -> None:
        """`node` is this cell's value, computed: the graph that gave it is let go."""
        self._value = node


def watching() -> Watch | None:
    """Who watches the cells of this thread."""
    return _watch.get()


@contextmanager
def watched(watch: Watch | None) -> Iterator[None]:
    """Let `watch` (None: nobody) stand between cells and their nodes in this thread."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def born_in(cell: Cell, watch: Watch) -> bool:
    """Was `cell` made while `watch` watched?"""
    return getattr(cell, "_born", None) is watch.mark


def made(cell: Cell, node: UOp, watch: Watch) -> bool:
    """Put `node` into a cell that was made while `watch` watched; False, and nothing done, for any other."""
    if not hasattr(cell, "_held"):
        cell._born = watch.mark
    elif not born_in(cell, watch):
        return False
    cell._held = node
    return True
