"""From a graph of tensors to kernels in order: what is fused into one kernel, and what goes through memory.

Element-wise ops and views fuse, round at most one REDUCE. A node is a boundary, computed into a buffer, if

- it is a root, a CONTIGUOUS, an ASSIGN or a SCATTER;
- it needs a REDUCE (or a FOLD, which counts as one) that is not behind a boundary and has several readers that do
  not meet again in one element-wise op, or is repeated by an EXPAND, or would meet another REDUCE in the kernel of
  a reader (the first one met stays);
- it needs an expensive op (EXP, LOG, SQRT, SIN, DIV, IDIV, MOD) and is repeated by an EXPAND, or gathered from;
- the kernel of a reader would grow beyond MAX_OPS ops.

Where a boundary falls on a view, what is viewed is stored if it is not larger. A FOLD's body is never cut: FOLDs
that one loop cannot compute are written out first (engine.unfold).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from engine.dtype import DType
from engine.ir import UOp, consumers, read_outside, substitute, toposort
from engine.kernel import Kernel
from engine.ops import ELEMENTWISE, VIEWS, Op
from engine.shapes import Shape, shape_of
from engine.unfold import renumbered

# Beyond this many ops a kernel gains nothing from fusion, and compilers take long.
MAX_OPS = 200
EXPENSIVE = frozenset({Op.EXP, Op.LOG, Op.SQRT, Op.SIN, Op.DIV, Op.IDIV, Op.MOD})
LEAVES = frozenset({Op.BUFFER, Op.CONST, Op.IOTA})
UNCOUNTED = LEAVES | VIEWS
OWN_MEMORY = frozenset({Op.CONTIGUOUS, Op.ASSIGN, Op.SCATTER})
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
    """What a reader of a node would take into its own kernel: how many ops at most, the REDUCE, expensive ops."""

    ops: int = 0
    reduce: UOp | None = None
    expensive: bool = False


_NOTHING = _Open()


class _Fusion:
    """Chooses the boundaries, walking the graph from its leaves; `cuts` are the nodes found."""

    def __init__(self, nodes: list[UOp], roots: Sequence[UOp]) -> None:
        self.cuts = {root for root in roots if root.op is not Op.BUFFER}
        self._open: dict[UOp, _Open] = {}
        self._readers = consumers(nodes)
        self._places = {node: place for place, node in enumerate(nodes)}
        for node in nodes:
            found = self._open[node] = _NOTHING if node.op in LEAVES else self._visit(node)
            needs_reduce = found.reduce is not None and node.op is not Op.FOLD and node not in self.cuts
            if node.op in OWN_MEMORY or (needs_reduce and not self._stays_together(node)):
                self._cut(node)

    def _stays_together(self, node: UOp) -> bool:
        """Does whatever reads `node` meet again in one node, by element-wise ops alone?

        Then one kernel can hold it all, as that of x · sigmoid(x) behind a matrix product.
        """
        waiting = {reader: self._places[reader] for reader in self._readers[node]}
        for _ in range(MAX_OPS):
            if len(waiting) <= 1:
                return True
            first = min(waiting, key=lambda reader: waiting[reader])
            del waiting[first]
            # A view would read the reduce at other places than its neighbour does: it would be computed twice.
            if first in self.cuts or first.op not in ELEMENTWISE or not self._readers[first]:
                return False
            waiting |= {reader: self._places[reader] for reader in self._readers[first]}
        return False

    def _seen(self, node: UOp) -> _Open:
        return _NOTHING if node in self.cuts else self._open[node]

    def _cut(self, node: UOp) -> None:
        """Make `node` a boundary, or what it views; its readers then take nothing of it."""
        base = node
        while base.op in _GROWING:
            base = base.src[0]
        self.cuts.add(node if base.op in LEAVES else base)
        self._open[node] = _NOTHING

    def _visit(self, node: UOp) -> _Open:
        sources = read_outside(node)
        if node.op in (Op.REDUCE, Op.GATHER) or _repeats(node):
            self._cut_repeated(node)
        if node.op in (Op.SCATTER, Op.FOLD):
            self._cut_reduces(sources)
        elif len(sources) > 1:
            self._cut_second_reduces(node)
        ops = sum(self._seen(source).ops for source in set(sources))
        if ops >= MAX_OPS:
            ops = self._cut_large(node)
        reduce, expensive = None, False
        for source in set(sources):
            seen = self._seen(source)
            reduce, expensive = reduce or seen.reduce, expensive or seen.expensive
        return _Open(
            ops + (node.op not in VIEWS),
            node if node.op in (Op.REDUCE, Op.FOLD) else reduce,
            expensive or node.op in EXPENSIVE,
        )

    def _cut_reduces(self, sources: tuple[UOp, ...]) -> None:
        for source in sources:
            if self._seen(source).reduce is not None:
                self._cut(source)

    def _cut_repeated(self, node: UOp) -> None:
        """What is repeated or reduced may need no reduce; what is repeated or gathered from no expensive op either."""
        source = node.src[0]
        seen = self._seen(source)
        if seen.reduce is not None or (node.op is not Op.REDUCE and seen.expensive):
            self._cut(source)

    def _cut_second_reduces(self, node: UOp) -> None:
        kept: UOp | None = None
        for source in node.src:
            found = self._seen(source).reduce
            if found is not None and kept is not None and found is not kept:
                self._cut(source)
            kept = kept or found

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
