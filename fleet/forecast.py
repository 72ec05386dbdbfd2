"""When waiting jobs will likely start: the queue played forward by how long the likes of them have run. Pure.

What is planned by timeouts (fleet/placement.py) is a promise; this is a guess, and how far such guesses have been off is
said beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from fleet.occupancy import SOON_S, Hold, Spot, Stay, able, common_start
from fleet.order import Waiting
from fleet.placement import Running
from fleet.requirements import NodeView, misfits

AHEAD = 32  # jobs that are played forward


def starts(
    jobs: Iterable[Waiting],
    nodes: Sequence[NodeView],
    running: Iterable[Running],
    now: float,
    limit: int = AHEAD,
) -> Mapping[int, float]:
    """The likely start of each of the first jobs, given in order; of those that fit nowhere, none.

    What runs ends when it likely is done. Each job begins where it can first, behind those before it, or in a gap that
    they leave.
    """
    spots = _spots(nodes, running, now)
    found: dict[int, float] = {}
    for job, _ in zip(jobs, range(limit), strict=False):
        length = min(job.likely_s, 1e9)
        begin = max(now, job.not_before)
        stay = Stay(job.needs, job.tenant, begin, begin + length)
        fitting = [spot for spot in spots if not misfits(job.needs, spot.node)]
        start = common_start(fitting, stay)
        if start == inf:
            continue
        later = stay.at(start)
        for spot in able(fitting, later)[: job.needs.ranks]:
            spot.keep(later, job.id)
        found[job.id] = start
    return found


def _spots(nodes: Sequence[NodeView], running: Iterable[Running], now: float) -> list[Spot]:
    found = [Spot(node, now) for node in nodes]
    by_id = {spot.node.id: spot for spot in found}
    for spot in found:
        spot.holds = []
    for each in running:
        end = max(each.likely_end if each.likely_end is not None else each.end, now + SOON_S)
        for seat in each.seats:
            if seat.node_id in by_id:
                by_id[seat.node_id].holds.append(Hold(end, seat.exclusive, seat.slots, seat.gpu_ids))
    return found
