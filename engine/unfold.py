"""FOLDs made ready for kernels.

Those that cannot be one loop over registers are written out, step by step. Of the others, those with several
states are computed once, into one buffer that holds all states of a dtype: a kernel has one output.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine import dtype as dt
from engine.build import const, elementwise, iota_along, pad, reshape, shrink
from engine.ir import UOp, substitute, toposort
from engine.ops import ELEMENTWISE, HoleKind, Op
from engine.shapes import shape_of


def is_pointwise(fold: UOp) -> bool:
    """Does each element of the states go its own way, so that one loop per element computes them?

    Then all states have one shape, and the body reads states and xs at the element itself only.
    """
    count = fold.arg[2]
    bodies = fold.src[-count:]
    if len({shape_of(source) for source in fold.src[:count]}) != 1:
        return False
    shape = shape_of(fold.src[0])
    if any(shape_of(x)[1:] != shape for x in fold.src[count:-count]):
        return False
    varies: set[UOp] = set()
    for node in toposort(*bodies):
        if node.op is Op.HOLE:
            if node.arg[1] is not HoleKind.STEP:
                varies.add(node)
        elif any(source in varies for source in node.src):
            varies.add(node)
            if node.op not in ELEMENTWISE:
                return False
        elif node.op in (Op.REDUCE, Op.SCATTER, Op.FOLD):
            return False
    return True


def unfold(roots: Sequence[UOp]) -> list[UOp]:
    """The roots with every FOLD that is not pointwise replaced by its steps, and states side by side in memory."""
    order = toposort(*roots, bodies=False)
    folds = [node for node in order if node.op is Op.FOLD]
    if not folds:
        return list(roots)
    used: dict[UOp, set[int]] = {}
    for node in order:
        if node.op is Op.GET:
            used.setdefault(node.src[0], set()).add(node.arg)
    replaced: dict[UOp, UOp] = {}
    for node in folds:
        fold = substitute(node, replaced)
        states = _packed(fold, used[node]) if is_pointwise(fold) else dict(enumerate(_steps(fold)))
        for number, state in states.items():
            replaced[UOp(Op.GET, state.dtype, (node,), number)] = state
    return [substitute(root, replaced) for root in roots]


def renumbered(root: UOp) -> UOp:
    """`root` with its FOLDs numbered in the order of the walk: kernels that compute the same are then the same."""
    order = toposort(root)
    numbers = {node.arg[0]: i for i, node in enumerate(node for node in order if node.op is Op.FOLD)}
    if not numbers:
        return root
    memo: dict[UOp, UOp] = {}
    for node in order:
        src, arg = tuple(memo[source] for source in node.src), node.arg
        if node.op in (Op.FOLD, Op.HOLE) and arg[0] in numbers:
            arg = (numbers[arg[0]], *arg[1:])
        memo[node] = node if src == node.src and arg == node.arg else UOp(node.op, node.dtype, src, arg)
    return memo[root]


def _packed(fold: UOp, used: set[int]) -> dict[int, UOp]:
    """The used states as parts of one buffer for each dtype."""
    found: dict[int, UOp] = {}
    for dtype in dict.fromkeys(fold.src[i].dtype for i in sorted(used)):
        numbers = [i for i in sorted(used) if fold.src[i].dtype == dtype]
        states = [UOp(Op.GET, dtype, (fold,), i) for i in numbers]
        if len(states) == 1:
            found[numbers[0]] = states[0]
            continue
        together = UOp(Op.CONTIGUOUS, dtype, (_stack(states),), "global")
        found |= {i: _at(together, place) for place, i in enumerate(numbers)}
    return found


def _stack(nodes: list[UOp]) -> UOp:
    """The nodes along a new first axis: each padded to all of it, and chosen where it stands."""
    shape = (len(nodes), *shape_of(nodes[0]))
    place = iota_along(shape, 0)
    found: UOp | None = None
    for i, node in enumerate(nodes):
        widths = [(i, len(nodes) - 1 - i, 0), *[(0, 0, 0)] * (len(shape) - 1)]
        padded = pad(reshape(node, (1, *shape[1:])), widths)
        here = elementwise(Op.EQ, place, const(i, dt.int64, shape))
        found = padded if found is None else elementwise(Op.WHERE, here, padded, found)
    assert found is not None
    return found


def _steps(fold: UOp) -> tuple[UOp, ...]:
    number, steps, count = fold.arg
    bodies, xs = fold.src[-count:], fold.src[count:-count]
    states = fold.src[:count]
    holes = [node for node in toposort(*bodies) if node.op is Op.HOLE and node.arg[0] == number]
    for step in range(steps):
        parts = [_at(x, step) for x in xs]
        now = {
            HoleKind.STATE: states,
            HoleKind.X: tuple(parts),
            HoleKind.STEP: (UOp(Op.CONST, dt.int64, (), step),),
        }
        bound = {hole: now[hole.arg[1]][hole.arg[2]] for hole in holes}
        states = tuple(substitute(body, bound) for body in bodies)
    return states


def _at(x: UOp, step: int) -> UOp:
    shape = shape_of(x)
    whole = [(0, n, 1) for n in shape[1:]]
    return reshape(shrink(x, [(step, step + 1, 1), *whole]), shape[1:])
