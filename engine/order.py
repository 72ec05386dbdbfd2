"""From a graph of tensors to kernels in order: what is fused into one kernel, and what goes through memory.

Element-wise ops and views fuse, round one REDUCE or round several of the same rows. A node is a boundary, computed
into a buffer, if

- it is a root, a CONTIGUOUS("global"), an ASSIGN or a SCATTER (a CONTIGUOUS at another level never is: whether a total
  goes through memory is decided as if it were not there, and then it stands with who reads the memory);
- it needs a REDUCE (or a FOLD, which counts as one) that is not behind a boundary and has several readers that do
  not meet again in one node, or is repeated by an EXPAND, or would meet another REDUCE in the kernel of a reader (the
  first one met stays);
- it needs an expensive op (EXP, LOG, SQRT, SIN, DIV, IDIV, MOD) and is repeated by an EXPAND, or gathered from;
- the kernel of a reader would grow beyond MAX_OPS ops.

Rows are what REDUCEs over all trailing axes leave: a softmax's maximum and total, a norm's mean and variance. While
nothing but element-wise ops, reshapes and further REDUCEs of the same rows comes between, such totals may be spread
over their rows again and meet in one kernel: it computes each once for each row, and reads the row as often as there
are totals, from the cache, which is why only rows of up to ROW_BYTES are fused so. What a row would compute more than
one expensive op for, each time, is stored.

Where a boundary falls on a view, what is viewed is stored if it is not larger. A FOLD's body is never cut: FOLDs
that one loop cannot compute are written out first (engine.unfold).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import prod

from engine.dtype import DType
from engine.ir import UOp, consumers, read_outside, substitute, toposort
from engine.kernel import Kernel
from engine.ops import ELEMENTWISE, VIEWS, Op
from engine.shapes import Shape, shape_of
from engine.unfold import renumbered

# A row that is read again from a first- or second-level cache.
ROW_BYTES = 1 << 17
# So many passes over a row in one kernel, at most.
MAX_TOTALS = 8
# Beyond this many ops a kernel gains nothing from fusion, and compilers take long.
MAX_OPS = 200
EXPENSIVE = frozenset({Op.EXP, Op.LOG, Op.SQRT, Op.SIN, Op.DIV, Op.IDIV, Op.MOD, Op.FMOD})
LEAVES = frozenset({Op.BUFFER, Op.CONST, Op.IOTA})
UNCOUNTED = LEAVES | VIEWS | {Op.CONTIGUOUS}
OWN_MEMORY = frozenset({Op.CONTIGUOUS, Op.ASSIGN, Op.SCATTER})
# What reads at other places than its own, and what of it may keep rows.
_MOVING = VIEWS | {Op.REDUCE, Op.PAD, Op.GATHER}
_OF_ROWS = frozenset({Op.REDUCE, Op.RESHAPE, Op.EXPAND})
# Looking through these from a boundary finds nothing larger.
_GROWING = VIEWS - {Op.SHRINK}

_numbers = count()


def fresh_buffer(shape: Shape, dtype: DType) -> UOp:
    """A BUFFER that no other node refers to."""
    return UOp(Op.BUFFER, dtype, (), (next(_numbers), shape))


@dataclass(frozen=True, slots=True)
class Step:
    """Run `kernel` on `inputs` (BUFFERs, in slot order) into `output`: the value of `node` of the graph."""

    kernel: Kernel
    inputs: tuple[UOp, ...]
    output: UOp
    node: UOp


def order(roots: Sequence[UOp]) -> list[Step]:
    """The steps that compute the roots, each after those it reads. A root that is a BUFFER needs none.

    FOLDs must have been through engine.unfold. Linear in the size of the graph, and iterative: a graph a million deep works.
    """
    nodes = toposort(*roots, bodies=False)
    cuts = _Fusion(nodes, roots).cuts
    outputs = {node: fresh_buffer(shape_of(node), node.dtype) for node in nodes if node in cuts}
    return [_step(node, outputs) for node in outputs]


def _step(node: UOp, outputs: dict[UOp, UOp]) -> Step:
    root = node.src[-1] if node.op in (Op.CONTIGUOUS, Op.ASSIGN) else node

    def is_read(below: UOp) -> bool:
        return below.op is Op.BUFFER or (below in outputs and below is not node)

    # An ASSIGN of what is computed elsewhere copies it.
    below = toposort(root, enter=lambda n: not is_read(n))
    inputs = [n for n in below if is_read(n)]
    params = {n: UOp(Op.PARAM, n.dtype, (), (i, shape_of(n))) for i, n in enumerate(inputs)}
    buffers = tuple(n if n.op is Op.BUFFER else outputs[n] for n in inputs)
    return Step(Kernel(renumbered(substitute(root, params))), buffers, outputs[node], node)


@dataclass(frozen=True, slots=True)
class _Open:
    """What a reader of a node would take into its own kernel.

    How many ops and expensive ops at most; which REDUCEs; of how many rows they are totals (None: none of rows alone),
    and whether they have been spread over them again.
    """

    ops: int = 0
    expensive: int = 0
    reduces: frozenset[UOp] = frozenset()
    rows: int | None = None
    spread: bool = False

    def meets(self, other: _Open) -> bool:
        """May one kernel have the REDUCEs of both?"""
        if not self.reduces or not other.reduces or self.reduces == other.reduces:
            return True
        few = len(self.reduces | other.reduces) <= MAX_TOTALS
        return few and self.rows is not None and self.rows == other.rows

    @property
    def is_rows(self) -> bool:
        """Does the kernel loop over rows? Then a view across them would compute their totals again and again."""
        return self.spread or len(self.reduces) > 1


_NOTHING = _Open()


def _together(seen: Iterable[_Open]) -> _Open:
    """All of them in one kernel; ops that several have count for each."""
    found = list(seen)
    rows = {each.rows for each in found if each.reduces}
    return _Open(
        sum(each.ops for each in found),
        min(sum(each.expensive for each in found), 8),
        frozenset[UOp]().union(*(each.reduces for each in found)),
        rows.pop() if len(rows) == 1 else None,
        any(each.spread for each in found),
    )


def _leading(shape: Shape, rows: int) -> int | None:
    """How many leading axes have so many elements together; the fewest. None if no number of them does."""
    return next((n for n in range(len(shape) + 1) if prod(shape[:n]) == rows), None)


def _row_of(shape: Shape, rows: int) -> int | None:
    """The elements of one of so many rows; None if rows are no leading axes."""
    return None if _leading(shape, rows) is None or rows == 0 else prod(shape) // rows


def _keeps_rows(node: UOp, rows: int) -> bool:
    """Is each row of a REDUCE, RESHAPE or EXPAND made of one row of what it reads?"""
    old = shape_of(node.src[0])
    length, first = _row_of(old, rows), _leading(old, rows)
    if length is None or first is None:
        return False
    if node.op is Op.REDUCE:
        left = (n for axis, n in enumerate(old) if axis >= first and axis not in node.arg[1])
        return min(node.arg[1]) >= first and all(n == 1 for n in left)
    row = _row_of(shape_of(node), rows)
    if node.op is Op.EXPAND:
        grown = shape_of(node)[:first] == old[:first]
        return length == 1 and grown and row is not None and row * node.dtype.itemsize <= ROW_BYTES
    return node.op is Op.RESHAPE and row is not None


def _goes_on(node: UOp, rows: int | None) -> bool:
    """Is it a REDUCE or a view that keeps the rows, if there are any?"""
    return rows is not None and node.op in _OF_ROWS and _keeps_rows(node, rows)


def _has_memory(node: UOp) -> bool:
    return node.op in OWN_MEMORY and not _is_wish(node)


def _is_wish(node: UOp) -> bool:
    """Is it a CONTIGUOUS that is no memory of its own?"""
    return node.op is Op.CONTIGUOUS and node.arg != "global"


def _rows_of(reduce: UOp) -> int | None:
    """Of how many rows a REDUCE's results are the totals; None if it reduces other axes than the last, or long rows."""
    shape, axes = shape_of(reduce.src[0]), reduce.arg[1]
    rows = prod(shape[: axes[0]])
    length = _row_of(shape, rows)
    if length is None or length * reduce.src[0].dtype.itemsize > ROW_BYTES or not _keeps_rows(reduce, rows):
        return None
    return rows


class _Fusion:
    """Chooses the boundaries, walking the graph from its leaves; `cuts` are the nodes found."""

    def __init__(self, nodes: list[UOp], roots: Sequence[UOp]) -> None:
        self.cuts = {root for root in roots if root.op is not Op.BUFFER}
        self._open: dict[UOp, _Open] = {}
        self._readers = consumers(nodes)
        self._places = {node: place for place, node in enumerate(nodes)}
        for node in nodes:
            found = self._open[node] = _NOTHING if node.op in LEAVES else self._visit(node)
            needs_reduce = found.reduces and node.op is not Op.FOLD and node not in self.cuts
            if _has_memory(node) or (needs_reduce and not self._stays_together(node)):
                self._cut(node)

    def _stays_together(self, node: UOp) -> bool:
        """Does whatever reads `node` meet again in one node, by element-wise ops or within its rows?

        Then one kernel can hold it all, as that of x · sigmoid(x) behind a matrix product.
        """
        rows = self._open[node].rows
        waiting = {reader: self._places[reader] for reader in self._readers[node]}
        for _ in range(MAX_OPS):
            if len(waiting) <= 1:
                return True
            first = min(waiting, key=lambda reader: waiting[reader])
            del waiting[first]
            # A view would read the reduce at other places than its neighbour does: it would be computed twice.
            passes = first.op in ELEMENTWISE or _is_wish(first)
            passes = passes or (first.op in _OF_ROWS and rows is not None and _keeps_rows(first, rows))
            if first in self.cuts or not passes or not self._readers[first]:
                return False
            waiting |= {reader: self._places[reader] for reader in self._readers[first]}
        return False

    def _seen(self, node: UOp) -> _Open:
        return _NOTHING if node in self.cuts else self._open[node]

    def _cut(self, node: UOp) -> None:
        """Make `node` a boundary, or what it views; its readers then take nothing of it."""
        base = node
        while base.op in _GROWING or (_is_wish(base) and self._open[base].reduces):
            base = base.src[0]
        self.cuts.add(node if base.op in LEAVES else base)
        self._open[node] = _NOTHING

    def _visit(self, node: UOp) -> _Open:
        sources = read_outside(node)
        if node.op in (Op.SCATTER, Op.FOLD):
            self._cut_reduces(sources)
        elif node.op in ELEMENTWISE:
            self._cut_second_reduces(node)
            self._cut_twice_expensive(node)
        elif node.op in _MOVING:
            self._cut_moved(node)
        ops = sum(self._seen(source).ops for source in set(sources))
        if ops >= MAX_OPS:
            ops = self._cut_large(node)
        below = _together(self._seen(source) for source in set(sources))
        return self._opened(node, replace(below, ops=ops))

    def _opened(self, node: UOp, below: _Open) -> _Open:
        """What `node` is open to with what it takes from below."""
        found = replace(
            below,
            ops=below.ops + (node.op not in UNCOUNTED),
            expensive=below.expensive + (node.op in EXPENSIVE),
        )
        if node.op is Op.CONTIGUOUS:  # whoever asks for a level pays for what is computed anew
            return replace(found, expensive=0)
        if node.op is Op.REDUCE:
            rows = below.rows if below.reduces else _rows_of(node)
            return replace(found, reduces=found.reduces | {node}, rows=rows)
        if node.op is Op.FOLD:
            return replace(found, reduces=frozenset({node}), rows=None)
        if below.reduces and node.op in _MOVING:
            rows = below.rows if _goes_on(node, below.rows) else None
            return replace(found, rows=rows, spread=found.spread or _repeats(node))
        return found

    def _cut_reduces(self, sources: tuple[UOp, ...]) -> None:
        for source in sources:
            if self._seen(source).reduces:
                self._cut(source)

    def _cut_moved(self, node: UOp) -> None:
        """Cut what a REDUCE, a view or a gather would compute again and again."""
        for source in read_outside(node):
            seen = self._seen(source)
            full = node.op is Op.REDUCE and len(seen.reduces) >= MAX_TOTALS
            if not full and _goes_on(node, seen.rows):
                continue
            repeated = source is node.src[0] and (node.op in (Op.REDUCE, Op.GATHER) or _repeats(node))
            expensive = seen.expensive > 0 and node.op is not Op.REDUCE
            if seen.is_rows or (repeated and (seen.reduces or expensive)):
                self._cut(source)
        if len(node.src) > 1:
            self._cut_second_reduces(node)

    def _cut_second_reduces(self, node: UOp) -> None:
        kept = _NOTHING
        for source in read_outside(node):
            if not kept.meets(self._seen(source)):
                self._cut(source)
            kept = _together([kept, self._seen(source)])

    def _cut_twice_expensive(self, node: UOp) -> None:
        """What a row needs for a total and again beside it is stored, if it takes more than one expensive op."""
        if not any(self._seen(source).spread for source in node.src):
            return
        for source in node.src:
            seen = self._seen(source)
            if not seen.reduces and seen.expensive > 1 and len(self._readers[source]) > 1:
                self._cut(source)

    def _cut_large(self, node: UOp) -> int:
        """Sums of the sources' ops count shared ops twice: count exactly before cutting the largest sources.

        The exact number of ops that are left.
        """
        sources = list(dict.fromkeys(read_outside(node)))
        ops = self._count(sources)
        if ops < MAX_OPS:
            return ops
        for source in sources:
            if source not in self.cuts:
                self._open[source] = replace(self._open[source], ops=self._count([source]))
        while ops >= MAX_OPS:
            self._cut(max(sources, key=lambda s: self._seen(s).ops))
            ops = self._count(sources)
        return ops

    def _count(self, nodes: list[UOp]) -> int:
        """The different ops that the nodes would bring into one kernel."""
        left = [node for node in nodes if self._seen(node).ops]
        below = toposort(*left, enter=lambda n: n not in self.cuts, bodies=False)
        return sum(n not in self.cuts and n.op not in UNCOUNTED for n in below)


def _repeats(node: UOp) -> bool:
    return node.op is Op.EXPAND and shape_of(node) != shape_of(node.src[0])
