"""From the graph of a lowered kernel to the order its code is written in.

The list holds what becomes a statement: RANGE opens a loop, END closes the ranges it names, ACC declares
accumulators, STORE, LOAD and arithmetic stand where they are computed. Constants, INDEX, AFTER and reads of
accumulators are part of the statements that use them. Everything is computed in the outermost loop it does
not change in; at its own level, as late as it is needed (so that an epilogue's loads wait for the reduce).
"""

from __future__ import annotations

from engine.ir import UOp, toposort
from engine.ops import ELEMENTWISE, Op
from engine.opts import RangeType

_EFFECTS = frozenset({Op.STORE, Op.PREFETCH, Op.END})
_STATEMENTS = ELEMENTWISE | _EFFECTS | {Op.LOAD, Op.ACC, Op.VECTOR, Op.LANE}


def linearize(sink: UOp) -> tuple[UOp, ...]:
    """The statements of a SINK in order; each stands once, inside exactly the loops it depends on."""
    writer = _Writer(_dependencies(toposort(sink)))
    writer.write(sink, frozenset())
    return tuple(writer.lines)


def behind_after(node: UOp) -> UOp:
    """What an AFTER gives, once it has waited."""
    while node.op is Op.AFTER:
        node = node.src[0]
    return node


def reads_accumulator(node: UOp) -> bool:
    """Is this a LOAD of an ACC? It is the accumulator's name, not a statement."""
    return node.op is Op.LOAD and behind_after(node.src[0].src[0]).op is Op.ACC


def _dependencies(order: list[UOp]) -> dict[UOp, frozenset[UOp]]:
    """The ranges each node must stand inside of: those it depends on and does not close."""
    found: dict[UOp, frozenset[UOp]] = {}
    for node in order:
        below = frozenset[UOp]().union(*(found[source] for source in node.src))
        if node.op is Op.RANGE and node.arg[2] is not RangeType.VEC:  # lanes are no loop
            below |= {node}
        found[node] = below - frozenset(node.src[1:]) if node.op is Op.END else below
    return found


class _Writer:
    def __init__(self, dependencies: dict[UOp, frozenset[UOp]]) -> None:
        self._dependencies = dependencies
        self._written: set[UOp] = set()
        self.lines: list[UOp] = []

    def write(self, root: UOp, open_: frozenset[UOp]) -> None:
        """Write everything `root` needs that is not written yet, in order, and `root`; nothing inside its ENDs."""
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if node in self._written or (node.op is Op.RANGE and node not in open_):
                continue
            if node.op is Op.END:
                self._end(node, open_)
            elif ready or node.op is Op.RANGE:
                self._line(node)
            else:
                stack.append((node, True))
                stack.extend((source, False) for source in reversed(_wanted_first(node)))

    def _line(self, node: UOp) -> None:
        self._written.add(node)
        if node.op in _STATEMENTS and not reads_accumulator(node):
            self.lines.append(node)

    def _end(self, node: UOp, open_: frozenset[UOp]) -> None:
        effect, *ranges = node.src
        for range_ in ranges:
            self._hoist(effect, open_)
            for source in range_.src:
                self.write(source, open_)
            self.lines.append(range_)
            open_ |= {range_}
        self.write(effect, open_)
        self._forget(frozenset(ranges))
        self._line(node)

    def _forget(self, closed: frozenset[UOp]) -> None:
        """What was computed inside loops that are closed is out of scope: another version computes it anew."""
        self._written = {node for node in self._written if not self._dependencies[node] & closed}

    def _hoist(self, effect: UOp, open_: frozenset[UOp]) -> None:
        """Write what lies under `effect` and needs none of the loops still to be opened."""
        for node in toposort(effect, enter=lambda n: n not in self._written):
            if node not in self._written and self._dependencies[node] <= open_:
                self.write(node, open_)


def _wanted_first(node: UOp) -> tuple[UOp, ...]:
    """Sources in the order to write them: what an AFTER waits for comes before its value."""
    return (*node.src[1:], node.src[0]) if node.op is Op.AFTER else node.src
