"""The one graph node: immutable and hash-consed, so that equal graphs are the same object."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from threading import RLock
from typing import Any, ClassVar
from weakref import WeakValueDictionary, ref

from engine.dtype import DType
from engine.ops import Op

_set = object.__setattr__  # a UOp's own refuses
Arg = Any  # a hashable value: a number, an Op, an enum, or a tuple of those


def _identity(arg: Arg) -> Arg:
    """A key under which equal-looking arguments of different type or bit pattern (1, 1.0, True, -0.0, NaN) differ.

    An int is its own, a tuple one of keys, anything else a pair that begins with the name of its type.
    """
    if type(arg) is int:
        return arg
    if isinstance(arg, tuple):
        return tuple([_identity(item) for item in arg])  # a list is quicker here than a generator
    if isinstance(arg, float):
        return ("float", struct.pack("<d", arg))
    return (type(arg).__name__, arg)


class UOp:
    """One operation: `op` on `src`, giving `dtype`; `arg` is what the op alone does not say (see `Op`).

    Nodes are interned: building the same node twice gives the same object, so `is` is equality and a
    dict keyed by nodes is a memo table. Never build one by any way but the constructor.
    """

    __slots__ = ("__weakref__", "arg", "dtype", "lanes", "levels", "op", "src")
    op: Op
    dtype: DType
    src: tuple[UOp, ...]
    arg: Arg
    # What was found out about the node, which never changes: engine.lanes (0: nothing yet), engine.spec (bits).
    lanes: int
    levels: int

    # Candidates are lowered in several threads at once; a node built twice would not be equal to itself.
    _interning: ClassVar[RLock] = RLock()
    _interned: ClassVar[WeakValueDictionary[tuple[Any, ...], UOp]] = WeakValueDictionary()
    # What is in it, which is quicker to ask.
    _known: ClassVar[dict[tuple[Any, ...], ref[UOp]]] = _interned.data  # type: ignore[attr-defined]

    def __new__(cls, op: Op, dtype: DType, src: tuple[UOp, ...] = (), arg: Arg = None) -> UOp:
        key = (op, dtype, tuple(map(id, src)), _identity(arg))
        with cls._interning:
            known = cls._known.get(key)
            found = None if known is None else known()
            if found is not None:
                return found
            node = super().__new__(cls)
            _set(node, "op", op)
            _set(node, "dtype", dtype)
            _set(node, "src", src)
            _set(node, "arg", arg)
            _set(node, "lanes", 0)
            _set(node, "levels", 0)
            cls._interned[key] = node
            return node

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"UOp is immutable: cannot set {name}")

    def note(self, name: str, value: int) -> None:
        """Keep what a pass has found out: `lanes` or `levels`."""
        _set(self, name, value)

    def replace(
        self,
        *,
        op: Op | None = None,
        dtype: DType | None = None,
        src: tuple[UOp, ...] | None = None,
        arg: Arg = None,
    ) -> UOp:
        """This node with some fields changed; an `arg` of None keeps the old one."""
        return UOp(
            op or self.op,
            dtype or self.dtype,
            self.src if src is None else src,
            self.arg if arg is None else arg,
        )

    def __repr__(self) -> str:
        return f"UOp({self.op.value}, {self.dtype.name}, {len(self.src)} src, {self.arg!r})"


def toposort(*roots: UOp, enter: Callable[[UOp], bool] | None = None, bodies: bool = True) -> list[UOp]:
    """Every node under `roots`, sources first, each once. `enter` may stop the walk below a node.

    Without `bodies` it does not go into those of FOLDs: what is there is only there inside the loop. Iterative: a
    graph a million deep works.
    """
    done: dict[UOp, None] = {}
    stack = list(reversed(roots))
    while stack:
        node = stack[-1]
        if node in done:
            stack.pop()
            continue
        sources = node.src if bodies else read_outside(node)
        missing = [source for source in sources if source not in done]
        if missing and (enter is None or enter(node)):
            missing.reverse()
            stack += missing
        else:
            done[node] = None
            stack.pop()
    return list(done)


def read_outside(node: UOp) -> tuple[UOp, ...]:
    """The sources of a node; of a FOLD, all but its bodies."""
    return node.src[: -node.arg[2]] if node.op is Op.FOLD else node.src


def consumers(order: list[UOp]) -> dict[UOp, list[UOp]]:
    """Who of a list of nodes reads each of them."""
    found: dict[UOp, list[UOp]] = {node: [] for node in order}
    for node in order:
        for source in node.src:
            if source in found:
                found[source].append(node)
    return found


def substitute(root: UOp, replacements: dict[UOp, UOp]) -> UOp:
    """`root` with nodes replaced, rebuilt bottom-up; a replacement is not looked into again."""
    return substitute_all((root,), replacements)[0]


def substitute_all(
    roots: Iterable[UOp], replacements: dict[UOp, UOp], bodies: bool = True
) -> tuple[UOp, ...]:
    """`substitute` of several roots: what they share is rebuilt once. Without `bodies` those of FOLDs stay."""
    roots = tuple(roots)
    memo: dict[UOp, UOp] = dict(replacements)
    stack = list(roots)
    while stack:
        node = stack[-1]
        if node in memo:
            stack.pop()
            continue
        read = node.src if bodies else read_outside(node)
        missing = [source for source in read if source not in memo]
        if missing:
            stack += missing
            continue
        src = (*[memo[source] for source in read], *node.src[len(read) :])
        memo[node] = node if src == node.src else node.replace(src=src)
        stack.pop()
    return tuple(memo[root] for root in roots)


def print_graph(root: UOp) -> Iterator[str]:
    """One line per node, sources first, numbered: what a person reads when a pass goes wrong."""
    numbers: dict[UOp, int] = {}
    for number, node in enumerate(toposort(root)):
        numbers[node] = number
        sources = " ".join(f"%{numbers[s]}" for s in node.src)
        yield f"%{number:<4} {node.op.value:<10} {node.dtype.name:<8} {sources:<16} {'' if node.arg is None else node.arg}"
