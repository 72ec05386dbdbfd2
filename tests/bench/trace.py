"""A week of a made-up but realistic trace, replayed through the real planner on a simulated clock, beside plain FIFO and
plain backfill (EASY: one planned start, in order of arrival).

60 nodes of 8 GPUs, 10,000 jobs: many short ones of one GPU, fewer of several, whole nodes, and gangs of up to 8 nodes;
more by day than by night and at weekends; timeouts several times too long, as people give them; six tenants, of which
one floods the queue on the third day. A tenant's weight is what it usually asks for. The same trace, the same ticks and the same nodes for all three; the planner alone
knows tenants and priorities.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles

from rich.table import Table

from fleet.agents.protocol import JobKind
from fleet.occupancy import Spot, Stay, able, common_start
from fleet.order import Account, Waiting
from fleet.placement import Decisions, Placement, Running
from fleet.requirements import Needs, NodeView
from tests.bench.racing import shown
from tests.fleet.floors import box
from tests.simulated import Policy, World, planner

DAY_S, HOUR_S = 86_400.0, 3600.0
GPUS = 8
TICK_S = 300.0
TENANTS = {"vision": 0.30, "speech": 0.22, "robots": 0.18, "physics": 0.14, "ads": 0.10, "interns": 0.06}
FLOODS = "ads"  # on the third day
SHORTEST_S = 600.0  # of a run, in a slowdown


@dataclass(frozen=True)
class Shape:
    """A class of jobs: its part of all, what it asks for, and how long it runs (median seconds, spread of the log)."""

    name: str
    part: float
    gpus: tuple[int, ...]
    ranks: tuple[int, ...]
    median_s: float
    spread: float


SHAPES = (
    Shape("1 GPU", 0.68, (1,), (1,), 2400.0, 1.3),
    Shape("2 to 4 GPUs", 0.20, (2, 4), (1,), 1.6 * HOUR_S, 1.1),
    Shape("whole node", 0.10, (8,), (1,), 2.2 * HOUR_S, 1.0),
    Shape("gang", 0.02, (8,), (2, 2, 4, 8), 3.0 * HOUR_S, 0.8),
)


@dataclass(frozen=True)
class Trace:
    """Jobs by their arrival, how long each runs in truth, and what class each is of."""

    jobs: Sequence[Waiting]
    takes_s: dict[int, float]
    shapes: dict[int, str]
    days: float
    nodes: int


def made_up(count: int, nodes: int, days: float, seed: int = 1) -> Trace:
    """A trace; the same for the same arguments."""
    dice = random.Random(seed)
    jobs, takes, shapes = [], {}, {}
    same: dict[Needs, Needs] = {}
    arrivals = sorted(_arrival(dice, days) for _ in range(count))
    for number, at in enumerate(arrivals, 1):
        shape = dice.choices(SHAPES, [each.part for each in SHAPES])[0]
        flooded = 2 * DAY_S <= at < 2.5 * DAY_S and dice.random() < 0.6
        tenant = FLOODS if flooded else dice.choices(list(TENANTS), list(TENANTS.values()))[0]
        runs = min(22 * HOUR_S, dice.lognormvariate(math.log(shape.median_s), shape.spread))
        limit = min(DAY_S, max(600.0, runs * dice.uniform(1.2, 4.0)))
        needs = Needs(
            JobKind.NOOP,
            gpus=dice.choice(shape.gpus),
            ranks=min(dice.choice(shape.ranks), max(2, nodes // 6) if shape.ranks[-1] > 1 else 1),
        )
        jobs.append(
            Waiting(
                number,
                1,
                same.setdefault(needs, needs),
                asked_at=at,
                queued_at=at,
                tenant=tenant,
                timeout_s=math.ceil(limit / 600) * 600.0,
            )
        )
        takes[number], shapes[number] = runs, shape.name
    return Trace(jobs, takes, shapes, days, nodes)


def _arrival(dice: random.Random, days: float) -> float:
    """By day more than by night, at weekends (the sixth and seventh day) half as much."""
    while True:
        at = dice.uniform(0, days * DAY_S)
        busy = 0.6 + 0.4 * math.sin((at % DAY_S) / DAY_S * 2 * math.pi - math.pi / 2)
        if at // DAY_S % 7 >= 5:
            busy *= 0.5
        if dice.random() < busy:
            return at


# ------------------------------------------------------------------------------------------ the others


def fifo(
    jobs: Sequence[Waiting],
    nodes: Sequence[NodeView],
    now: float,
    _accounts: dict[str, Account],
    _running: Sequence[Running],
) -> Decisions:
    """In order of arrival; who cannot start keeps all behind from starting."""
    return _in_order(jobs, nodes, now, backfill=False)


def backfill(
    jobs: Sequence[Waiting],
    nodes: Sequence[NodeView],
    now: float,
    _accounts: dict[str, Account],
    _running: Sequence[Running],
) -> Decisions:
    """EASY (Lifka 1995): in order of arrival; the first that cannot start has its start planned, and whoever does not
    delay that may go before."""
    return _in_order(jobs, nodes, now, backfill=True)


def _in_order(jobs: Sequence[Waiting], nodes: Sequence[NodeView], now: float, backfill: bool) -> Decisions:
    spots, made, planned = [Spot(node, now) for node in nodes], Decisions(), False
    refused: dict[Needs, float] = {}
    for job in sorted(jobs, key=lambda each: (each.asked_at, each.id)):
        stay = Stay(job.needs, "", now, now + job.timeout_s)
        if refused.get(job.needs, math.inf) <= stay.end:
            continue
        free = able(spots, stay)
        if len(free) >= job.needs.ranks:
            free.sort(key=lambda spot: (spot.free_gpus(), spot.node.id))
            first, *rest = [spot.take(stay) for spot in free[: job.needs.ranks]]
            made.placements.append(
                Placement(
                    job.id, 1, first.node_id, first.device_id, first.exclusive, first.gpu_ids, 1, tuple(rest)
                )
            )
        elif not backfill:
            break
        elif not planned:
            planned = True
            start = common_start(spots, stay)
            for spot in able(spots, stay.at(start))[: job.needs.ranks]:
                spot.keep(stay.at(start), job.id)
        else:
            refused[job.needs] = min(stay.end, refused.get(job.needs, math.inf))
    return made


POLICIES: dict[str, Policy] = {"plain FIFO": fifo, "plain backfill": backfill, "tinyfleet": planner}


# ------------------------------------------------------------------------------------------ the replay


@dataclass(frozen=True)
class Outcome:
    """What came of a replay: GPU time used of what there was while jobs came in, waits by class, and fairness."""

    utilization: float
    waits: dict[str, list[float]]
    flooded: float  # mean wait of the other tenants' jobs of the day of the flood, seconds
    fairness: float
    worst: float  # the mean slowdown of the tenant that is slowed down most
    last_end: float
    seconds: float


def replay(trace: Trace, policy: Policy, tick_s: float = TICK_S) -> Outcome:
    """Play the trace to its end."""
    begun = time.monotonic()
    world = World(
        [box(number, gpus=GPUS, slots=64) for number in range(1, trace.nodes + 1)],
        lambda job: trace.takes_s[job.id],
        policy,
        {name: Account(name, weight=weight) for name, weight in TENANTS.items()},
    )
    left, now = list(reversed(trace.jobs)), 0.0
    used, last = 0.0, 0.0
    while left or world.waiting or world.leases:
        coming = left[-1].asked_at if left else math.inf
        now = max(now + tick_s, math.ceil(min(coming, world.next_end()) / tick_s) * tick_s)
        horizon = min(now, trace.days * DAY_S)
        used += sum(
            max(0.0, min(lease.end, horizon) - max(lease.start, last))
            * sum(len(s.gpu_ids) for s in lease.seats)
            for lease in world.leases.values()
        )
        last = max(last, horizon)
        while left and left[-1].asked_at <= now:
            world.submit(left.pop())
        world.tick(now)
    there = trace.days * DAY_S * trace.nodes * GPUS
    waits: dict[str, list[float]] = {shape.name: [] for shape in SHAPES}
    for job in trace.jobs:
        waits[trace.shapes[job.id]].append(world.started[job.id] - job.asked_at)
    slowed = slowdowns(trace, world)
    return Outcome(
        used / there,
        waits,
        _flooded(trace, world),
        fairness(slowed),
        max(slowed),
        max(world.ended.values()),
        time.monotonic() - begun,
    )


def _flooded(trace: Trace, world: World) -> float:
    found = [
        world.started[job.id] - job.asked_at
        for job in trace.jobs
        if job.tenant != FLOODS and 2 * DAY_S <= job.asked_at < 3 * DAY_S
    ]
    return fmean(found) if found else 0.0


def slowdowns(trace: Trace, world: World) -> list[float]:
    """Of each tenant: how many times longer its jobs took, with their wait, than they ran, on average."""
    slowed: dict[str, list[float]] = {}
    for job in trace.jobs:
        wait, runs = world.started[job.id] - job.asked_at, max(SHORTEST_S, trace.takes_s[job.id])
        slowed.setdefault(job.tenant, []).append((wait + runs) / runs)
    return [fmean(each) for each in slowed.values()]


def fairness(slowed: Sequence[float]) -> float:
    """Jain's index: 1 when all tenants are slowed down alike, however much; 1/6 when one of six alone is."""
    return sum(slowed) ** 2 / (len(slowed) * sum(each**2 for each in slowed))


FACTS = (
    "wait: median / 95th percentile, minutes",
    "flood: mean wait of the others on the day of the flood, minutes",
    "alike: Jain's index of the tenants' mean slowdowns",
    "worst: of the tenant that is slowed down most",
    "replay: seconds of this machine",
)


def table(trace: Trace, found: dict[str, Outcome]) -> Table:
    """What came of each, below each other."""
    asked = sum(trace.takes_s[job.id] * job.needs.gpus * job.needs.ranks for job in trace.jobs)
    there = trace.days * DAY_S * trace.nodes * GPUS
    drawn = Table(
        title=f"{len(trace.jobs)} jobs in {trace.days:g} days on {trace.nodes} nodes of {GPUS} GPUs; "
        f"what they ask for is {asked / there:.0%} of what there is"
    )
    names = [shape.name for shape in SHAPES]
    for column in ("", "used", *names, "flood", "alike", "worst", "last end", "replay"):
        drawn.add_column(column, justify="right")
    for name, each in found.items():
        drawn.add_row(
            name,
            f"{each.utilization:.1%}",
            *(_waits(each.waits[shape]) for shape in names),
            f"{each.flooded / 60:.0f}",
            f"{each.fairness:.3f}",
            f"{each.worst:.1f}×",
            f"{each.last_end / DAY_S:.2f} d",
            f"{each.seconds:.0f} s",
        )
    return drawn


def _waits(waits: Sequence[float]) -> str:
    if len(waits) < 2:
        return "–"
    return f"{median(waits) / 60:.0f} / {quantiles(waits, n=20)[-1] / 60:.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tick", type=float, default=TICK_S, help="seconds between two looks")
    options = parser.parse_args()
    trace = made_up(options.jobs, options.nodes, options.days, options.seed)
    found = {name: replay(trace, policy, options.tick) for name, policy in POLICIES.items()}
    with shown(table(trace, found), *FACTS):
        pass


if __name__ == "__main__":
    main()
