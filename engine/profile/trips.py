"""How often each statement of a linearized kernel runs: the product of its loops' trips, summed where they vary.

Loops at an axis's end, and conditions (loops of at most one trip), have trips that depend on loops outside of them.
Those are added up over all values of the loops they depend on, up to GRID points; beyond that, over an even sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from engine.ir import UOp, toposort
from engine.ops import Op
from engine.runtime.meaning import UFUNCS

GRID = 1 << 20  # points
_KNOWN = frozenset({*UFUNCS, Op.CONST, Op.CAST, Op.RANGE})
Numbers = np.ndarray[Any, np.dtype[Any]]


def statements(linear: Sequence[UOp]) -> Iterator[tuple[UOp, float]]:
    """Every statement that is no loop, and how often it runs in one run of the kernel."""
    open_: list[UOp] = []
    known: dict[tuple[UOp, ...], float] = {(): 1.0}
    for node in linear:
        if node.op is Op.RANGE:
            open_.append(node)
        elif node.op is Op.END:
            closed = set(node.src[1:])
            open_ = [range_ for range_ in open_ if range_ not in closed]
        else:
            key = tuple(open_)
            if key not in known:
                known[key] = _iterations(key)
            yield node, known[key]


def _iterations(loops: tuple[UOp, ...]) -> float:
    """Iterations of the innermost of nested loops."""
    below = {loop: _ranges_under(loop) & set(loops) for loop in loops}
    varying = {loop for loop in loops if below[loop]} | set().union(*below.values())
    total = float(prod(_trips(loop) for loop in loops if loop not in varying))
    for together in _connected([loop for loop in loops if loop in varying], below):
        total *= _summed(together)
    return total


def _trips(loop: UOp) -> int:
    source = _source(loop)
    return int(loop.arg[1]) if source is None else int(_value(source, {}))


def _source(loop: UOp) -> UOp | None:
    """What a loop's trips are computed from; None if they are its extent, or (taken to be) if data decides."""
    return loop.src[0] if loop.src and all(node.op in _KNOWN for node in toposort(loop.src[0])) else None


def _ranges_under(loop: UOp) -> set[UOp]:
    """The ranges that a loop's trips are computed from."""
    source = _source(loop)
    return set() if source is None else {node for node in toposort(source) if node.op is Op.RANGE}


def _connected(loops: list[UOp], below: dict[UOp, set[UOp]]) -> list[list[UOp]]:
    """The loops in groups that do not depend on one another, each from outside to inside."""
    groups: list[set[UOp]] = []
    for loop in loops:
        own = {loop} | below[loop]
        for other in [group for group in groups if group & own]:
            groups.remove(other)
            own |= other
        groups.append(own)
    return [[loop for loop in loops if loop in group] for group in groups]


def _summed(loops: list[UOp]) -> float:
    """Iterations of the innermost of these loops: 1 summed over all points that the loops reach."""
    needed = set().union(*(_ranges_under(loop) for loop in loops))
    inner = [loop for loop in loops if loop not in needed]
    outer = [loop for loop in loops if loop in needed]
    places, weight = _grid(outer)
    reached: Numbers = np.ones(1)
    for loop in outer:
        source = _source(loop)
        if source is not None:
            reached = reached * (places[loop] < _value(source, places))
    for loop in inner:
        source = _source(loop)
        reached = reached * (loop.arg[1] if source is None else _value(source, places))
    shape = tuple(len(np.ravel(places[loop])) for loop in outer)
    return float(np.broadcast_to(reached, shape).sum() * weight)


def _grid(loops: list[UOp]) -> tuple[dict[UOp, Numbers], float]:
    """Values of each loop along an axis of its own, and how many points each stands for."""
    extents = [int(loop.arg[1]) for loop in loops]
    counts = list(extents)
    while prod(counts) > GRID:
        longest = max(range(len(counts)), key=lambda i: counts[i])
        counts[longest] = max(1, counts[longest] // 2)
    found = {}
    for axis, (loop, extent, points) in enumerate(zip(loops, extents, counts, strict=True)):
        values = ((2 * np.arange(points) + 1) * extent) // (2 * points)
        found[loop] = values.reshape([-1 if i == axis else 1 for i in range(len(loops))])
    return found, prod(extents) / prod(counts)


def _value(root: UOp, places: dict[UOp, Numbers]) -> Numbers:
    """The value of an index expression at all places."""
    done: dict[UOp, Numbers] = dict(places)
    for node in toposort(root):
        if node in done:
            continue
        src = [done[source] for source in node.src]
        if node.op is Op.CONST:
            done[node] = np.asarray(node.arg)
        elif node.op is Op.CAST:
            done[node] = src[0].astype(node.dtype.numpy)
        elif node.op is Op.RANGE:
            done[node] = np.asarray(0)  # lanes
        else:
            done[node] = np.asarray(UFUNCS[node.op](*src))
    return done[root]
