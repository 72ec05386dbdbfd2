"""What a user wants kept, by `contiguous("local")` and `contiguous("register")`: as opts, and what became of it.

A value that a pass over a row computes and later passes compute again is kept by KEEP, a row at a time; any other value
by STAGE, outside as many loops as it fits. A total is in registers where it was added up, and so is what is computed
from it for one pass only: there is nothing to keep.
"""

from __future__ import annotations

from engine.errors import IllegalOpt
from engine.indexing import body
from engine.ir import UOp, toposort
from engine.keeps import keepables
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind, Schedule
from engine.schedule import Scheduled, replay
from engine.stages import Value, is_wish, values


def keeps(kernel: Kernel) -> list[Opt]:
    """A KEEP for each wanted value that later passes over a row compute again."""
    if not _are_there(kernel):
        return []
    return [Opt(OptKind.KEEP, name, 0, 0) for name, value in keepables(kernel).items() if value.is_wanted]


def depths(kernel: Kernel, schedule: Schedule) -> tuple[int | None, ...]:
    """For each of the kernel's `values` inside how many loops to stage it after `schedule`: None if not wanted.

    A value that passes over rows keep is not staged as well.
    """
    found: list[int | None] = []
    kept = _kept(kernel, schedule)
    for value, number in _numbered(kernel):
        depth, opts = None, schedule
        if value.is_wanted and value.node not in kept:
            depth, opts = _outermost(kernel, schedule, value.target, number)
        found.append(depth)
        schedule = opts
    return tuple(found)


def stages(kernel: Kernel, schedule: Schedule) -> list[Opt]:
    """A STAGE after `schedule` for each wanted value that no KEEP of it keeps."""
    found = depths(kernel, schedule)
    return [
        _stage(value.target, number, depth)
        for (value, number), depth in zip(_numbered(kernel), found, strict=True)
        if depth is not None
    ]


def heeded(kernel: Kernel, schedule: Schedule) -> frozenset[tuple[str, str, int]]:
    """Which wishes the opts of a schedule heed: (kind, target, value's number)."""
    wanted = {(OptKind.STAGE, value.target, n) for value, n in _numbered(kernel) if value.is_wanted}
    wanted |= {(OptKind.KEEP, opt.target, 0) for opt in keeps(kernel)}
    return frozenset((opt.kind, opt.target, opt.axis) for opt in schedule) & frozenset(wanted)


def told(kernel: Kernel, scheduled: Scheduled) -> list[str]:
    """A line for each wish: what was wanted at which level, and where it is."""
    found = body(kernel)
    kept = _kept(kernel, scheduled.opts)
    staged = {stage.value.node: stage for stage in scheduled.stages}
    lines: list[str] = []
    for node in toposort(found.value):
        if node.op is not Op.CONTIGUOUS:
            continue
        if node in kept:
            place = "scratch memory, a row at a time (KEEP)"
        elif node in staged:
            place = (
                f"scratch memory, {staged[node].elements} elements inside {staged[node].depth} loops (STAGE)"
            )
        elif is_wish(node, "register"):
            place = "registers"
        else:
            place = f"registers: {_reason(node)}"
        lines.append(f"contiguous({node.arg!r}) of {node.src[0].op.value}: {place}")
    return list(dict.fromkeys(lines))


def _reason(node: UOp) -> str:
    below = toposort(node, enter=lambda n: n.op is not Op.REDUCE)
    if node.src[0].op is Op.REDUCE:
        return "it is a total, added up there"
    if any(n.op is Op.REDUCE for n in below):
        return "it is computed from a total, and by one pass only"
    if any(n.op is Op.LOAD for n in below):
        return "it does not fit, or is kept with a value that is computed from it"
    return "it is computed from nothing in memory"


def _are_there(kernel: Kernel) -> bool:
    return any(node.op is Op.CONTIGUOUS for node in toposort(kernel.output))


def _kept(kernel: Kernel, schedule: Schedule) -> frozenset[UOp]:
    """The wishes that KEEPs of a schedule heed."""
    names = {opt.target for opt in schedule if opt.kind is OptKind.KEEP}
    kept = [value for name, value in keepables(kernel).items() if name in names] if names else []
    nodes = {node for value in kept for node in (value.node, *value.twins.values())}
    if not nodes:
        return frozenset()
    return frozenset(
        node
        for node in toposort(body(kernel).value)
        if is_wish(node, "local") and not nodes.isdisjoint({node, node.src[0]})
    )


def _numbered(kernel: Kernel) -> list[tuple[Value, int]]:
    """The kernel's values, each with its number among those of its target."""
    numbers: dict[str, int] = {}
    found: list[tuple[Value, int]] = []
    for value in values(kernel):
        number = numbers[value.target] = numbers.get(value.target, -1) + 1
        found.append((value, number))
    return found


def _outermost(kernel: Kernel, schedule: Schedule, target: str, number: int) -> tuple[int | None, Schedule]:
    """The fewest loops that the STAGE may stand in, and the schedule with it."""
    loops = sum(not axis.reduce for axis in body(kernel).axes) + len(schedule)
    for depth in range(loops + 1):
        staged = (*schedule, _stage(target, number, depth))
        try:
            replay(kernel, staged)
        except IllegalOpt:  # too large, say
            continue
        return depth, staged
    return None, schedule


def _stage(target: str, number: int, depth: int) -> Opt:
    return Opt(OptKind.STAGE, target, number, depth)
