"""Which nodes and devices for which job, and why not. Pure: proposals from frozen values, no clock and no database.

Jobs are looked at in order (fleet/order.py). One that cannot be placed never blocks those behind it, but when it has
waited `HOLD_AFTER_S` its start is planned: the devices that are free for it first are kept from then on, and what would
still run then is not begun there (backfill: what ends before may). Else a stream of small jobs would starve a large
one; as it is, it waits no longer than the timeouts of what runs there already. At most `HOLDS` starts are planned at a
time, those of the first jobs in order; nobody behind a job in order delays its planned start.

A gang is placed whole or not at all, so that two gangs never hold halves of what both need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from fleet.occupancy import Seat, Spot, Stay, able, common_start
from fleet.order import Account, Book, Waiting, book, in_order
from fleet.requirements import SHOWN, Needs, NodeView, misfits, no_fit, several, suitable

HOLD_AFTER_S = 2.0
HOLDS = (
    2  # planned starts in one pass: more cost small jobs more than they give large ones (docs/scheduling.md)
)
PREEMPTORS = 8  # jobs that others make way for in one pass
PREEMPT_AFTER_S = 60.0  # who starts within so long anyway stops nobody


@dataclass(frozen=True)
class Placement:
    """A proposal: this job on this device; with GPUs, and with the other ranks' seats, if it asked for them."""

    job_id: int
    generation: int
    node_id: int
    device_id: int
    exclusive: bool
    gpu_ids: tuple[int, ...] = ()
    slots: int = 1
    others: tuple[Seat, ...] = ()

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Each rank's, rank 0 first."""
        first = Seat(self.node_id, self.device_id, self.exclusive, self.gpu_ids, self.slots)
        return (first, *self.others)


@dataclass(frozen=True)
class Delay:
    """A job stays queued, and why; `starts_at` and `nodes`: the start that is planned for it and where, if one is.

    `expected_at`: the likely start, when it is told for the first time.
    """

    job_id: int
    generation: int
    reason: str
    starts_at: float | None = None
    nodes: tuple[int, ...] = ()
    expected_at: float | None = None


@dataclass(frozen=True)
class Running:
    """A job that holds devices until `end` at the latest."""

    job_id: int
    generation: int
    tenant: str
    priority: int
    preemptible: bool
    started_at: float
    end: float
    seats: tuple[Seat, ...]
    likely_end: float | None = None  # as the likes of it ran; None: by its timeout


@dataclass(frozen=True)
class Preemption:
    """A running job makes way, for one of a higher priority or because its node has to be empty."""

    job_id: int
    generation: int
    why: str


@dataclass
class Decisions:
    """What a pass decided."""

    placements: list[Placement] = field(default_factory=list)
    delays: list[Delay] = field(default_factory=list)
    preemptions: list[Preemption] = field(default_factory=list)


Fitting = tuple[list[Spot], list[str]]  # where a job could run, and why not elsewhere


@dataclass
class Pass:
    """The fleet during one placement."""

    spots: list[Spot]
    book: Book
    running: Sequence[Running]
    now: float
    holds: int = HOLDS
    preemptors: int = PREEMPTORS
    looked_at: int = 0
    fitting: dict[Needs, Fitting] = field(default_factory=dict)  # jobs of the same needs fit the same nodes
    refused: dict[tuple[Needs, str], tuple[float, str]] = field(default_factory=dict)
    made: Decisions = field(default_factory=Decisions)


def place(
    jobs: Iterable[Waiting],
    nodes: Sequence[NodeView],
    now: float,
    accounts: Mapping[str, Account] | None = None,
) -> tuple[list[Placement], list[Delay]]:
    """Proposals for the queued jobs, and the reasons of those that must wait on."""
    made = decide(jobs, nodes, now, accounts)
    return made.placements, made.delays


def decide(
    jobs: Iterable[Waiting],
    nodes: Sequence[NodeView],
    now: float,
    accounts: Mapping[str, Account] | None = None,
    running: Sequence[Running] = (),
) -> Decisions:
    """Proposals, delays, and who makes way. `running` are looked at for those only that may be preempted."""
    return run(jobs, nodes, now, accounts, running).made


def run(
    jobs: Iterable[Waiting],
    nodes: Sequence[NodeView],
    now: float,
    accounts: Mapping[str, Account] | None = None,
    running: Sequence[Running] = (),
    until: int | None = None,
) -> Pass:
    """A pass over the jobs in order, as far as the turn of the job `until`."""
    queued = list(jobs)
    preemptible = [each for each in running if each.preemptible]
    floor = Pass([Spot(node, now) for node in nodes], book(accounts or {}, nodes, queued), preemptible, now)
    for job in in_order(queued, floor.book.penalty, now):
        if job.id == until:
            break
        floor.looked_at += 1
        found = _place_one(job, floor)
        if isinstance(found, Placement):
            floor.made.placements.append(found)
        else:
            floor.made.delays.append(found)
    return floor


def _place_one(job: Waiting, floor: Pass) -> Placement | Delay:
    if job.not_before > floor.now:
        return Delay(job.id, job.generation, job.reason or "waits before it is tried again")
    fitting, misfitting = _fitting(job.needs, floor)
    allowed, quota = within_quota(job, fitting, floor)
    if quota:
        return Delay(job.id, job.generation, quota)
    if len(allowed) < job.needs.ranks:
        return Delay(job.id, job.generation, _too_few(job.needs, fitting, misfitting))
    key, ends = (job.needs, job.tenant), floor.now + job.timeout_s
    if not (job.avoid or job.avoid_gpus) and key in floor.refused and floor.refused[key][0] <= ends:
        return Delay(job.id, job.generation, floor.refused[key][1])  # the like of it was refused just now
    preferred, stay = choices(job, allowed, floor.now)
    free = able(preferred, stay)
    if len(free) >= job.needs.ranks:
        return _placed(job, free, stay, floor)
    return _delayed(job, preferred, len(free), stay, floor)


def within_quota(job: Waiting, fitting: list[Spot], floor: Pass) -> tuple[list[Spot], str]:
    """The spots on which the job would not exceed what its tenant may have, and which quota keeps it if too few are.

    How many GPUs a whole node costs is known only of each node.
    """
    account, needs = floor.book.account(job.tenant), job.needs
    if not needs.whole_node or (account.max_gpus is None and account.gpu_s_left is None):
        quota = account.refusal(needs.gpus * needs.ranks, job.timeout_s)
        return ([] if quota else fitting), quota
    costs = {spot.node.id: needs.ranks * len(suitable(needs, spot.node)) for spot in fitting}
    allowed = [spot for spot in fitting if not account.refusal(costs[spot.node.id], job.timeout_s)]
    if len(allowed) >= needs.ranks or len(fitting) < needs.ranks:
        return allowed, ""
    least = sorted(costs.values())[needs.ranks - 1]
    return [], f"{account.refusal(least, job.timeout_s)}, and it would hold {least} or more"


def choices(job: Waiting, fitting: list[Spot], now: float) -> tuple[list[Spot], Stay]:
    """Where the job may go if it begins now, and how it would stay there: not where it failed, if others are left."""
    avoided = _avoided(job, fitting)
    return _preferred(job, fitting), Stay(job.needs, job.tenant, now, now + job.timeout_s, avoided)


def _fitting(needs: Needs, floor: Pass) -> Fitting:
    if needs not in floor.fitting:
        floor.fitting[needs] = _candidates(needs, floor)
    return floor.fitting[needs]


def _candidates(needs: Needs, floor: Pass) -> Fitting:
    if needs.node_id is not None and all(spot.node.id != needs.node_id for spot in floor.spots):
        return [], ["the node that it is for was retired"]
    fitting, misfitting = [], []
    for spot in floor.spots:
        found = misfits(needs, spot.node)
        if found:
            misfitting.append(f"{spot.node.name} {found[0].problem}")
        else:
            fitting.append(spot)
    return fitting, misfitting


def _too_few(needs: Needs, fitting: Sequence[Spot], misfitting: Sequence[str]) -> str:
    if not fitting:
        return no_fit(misfitting)
    rest = f": {several(misfitting)}" if misfitting else ""
    return f"a gang of {needs.ranks} nodes, and only {len(fitting)} could ever be one of them{rest}"


def _avoided(job: Waiting, fitting: Sequence[Spot]) -> frozenset[int]:
    """The GPUs that failed the job, unless too few nodes have enough others: as a whole all of a node's are needed."""
    if not job.avoid_gpus:
        return job.avoid_gpus
    others = 0
    for spot in fitting:
        cards = suitable(job.needs, spot.node)
        wanted = len(cards) if job.needs.whole_node else job.needs.gpus
        others += sum(gpu.id not in job.avoid_gpus for gpu in cards) >= wanted
    return job.avoid_gpus if others >= job.needs.ranks else frozenset()


def _preferred(job: Waiting, fitting: list[Spot]) -> list[Spot]:
    """Without the nodes that failed the job, unless too few are left. One that failed by a GPU has others."""
    if not job.avoid or job.needs.gpus:
        return fitting
    left = [spot for spot in fitting if spot.node.id not in job.avoid]
    return left if len(left) >= job.needs.ranks else fitting


# ----------------------------------------------------------------------------------------------- placed


def _placed(job: Waiting, free: Sequence[Spot], stay: Stay, floor: Pass) -> Placement:
    chosen = _as_planned(job, free) or _choose(_nearest(job, free), job.needs)
    first, *others = [spot.take(stay) for spot in chosen]
    seats = (first, *others)
    gpus = sum(len(seat.gpu_ids) for seat in seats)
    slots = sum(_slots(spot, seat) for spot, seat in zip(chosen, seats, strict=True))
    floor.book.charge(job.tenant, gpus, slots, job.timeout_s)
    return Placement(
        job.id,
        job.generation,
        first.node_id,
        first.device_id,
        first.exclusive,
        first.gpu_ids,
        first.slots,
        tuple(others),
    )


def _as_planned(job: Waiting, free: Sequence[Spot]) -> Sequence[Spot]:
    """The nodes that were kept for the job, if they are free: those after it in order have planned on others."""
    kept = [spot for spot in free if spot.node.id in job.planned]
    return kept if len(kept) == job.needs.ranks else []


def _nearest(job: Waiting, free: Sequence[Spot]) -> Sequence[Spot]:
    """Those of the free nodes that keep the most of what the job reads; of a gang any that keep some, if they suffice.

    A preference only: nobody waits for a node that is near.
    """
    kept = dict(job.near)
    most = max((kept.get(spot.node.id, 0) for spot in free), default=0)
    least = most if job.needs.ranks == 1 else 1
    near = [spot for spot in free if kept.get(spot.node.id, 0) >= least]
    return near if most and len(near) >= job.needs.ranks else free


def _slots(spot: Spot, seat: Seat) -> int:
    return spot.cpu.slots if seat.exclusive and spot.cpu is not None else seat.slots


def _choose(free: Sequence[Spot], needs: Needs) -> Sequence[Spot]:
    """The nodes of the seats: GPUs are packed, so that whole nodes stay free; cpus are spread, where few GPUs are.

    A gang goes into one rack if one has room, else into as few as may be.
    """
    ranked = sorted(free, key=_tightest if needs.gpus else _idlest)
    if needs.ranks == 1:
        return ranked[:1]
    racks: dict[str, list[Spot]] = {}
    for spot in ranked:
        racks.setdefault(spot.node.rack, []).append(spot)
    roomy = [spots for spots in racks.values() if len(spots) >= needs.ranks]
    if roomy:
        return min(roomy, key=len)[: needs.ranks]
    by_size = sorted(racks.values(), key=len, reverse=True)
    return [spot for spots in by_size for spot in spots][: needs.ranks]


def _tightest(spot: Spot) -> tuple[float, ...]:
    return spot.free_gpus(), spot.node.id


def _idlest(spot: Spot) -> tuple[float, ...]:
    slots = spot.cpu.slots if spot.cpu is not None else 1
    return len(spot.node.gpus), spot.shared() / slots, spot.node.id


# ---------------------------------------------------------------------------------------------- delayed


def _delayed(job: Waiting, preferred: Sequence[Spot], free: int, stay: Stay, floor: Pass) -> Delay:
    reason = _all_busy(preferred, free, stay)
    waits = floor.now - job.queued_at >= HOLD_AFTER_S
    victims = [each for each in floor.running if each.priority < job.priority]
    starts_at: float | None = None
    where: tuple[int, ...] = ()
    if (floor.holds and waits) or (floor.preemptors and victims):
        starts_at, where = _plan(job, preferred, stay, floor, victims)
    if starts_at is None and not (job.avoid or job.avoid_gpus or victims):
        ends, _ = floor.refused.get((job.needs, job.tenant), (inf, ""))
        floor.refused[job.needs, job.tenant] = (min(ends, stay.end), reason)
    return Delay(job.id, job.generation, reason, starts_at, where)


def _plan(
    job: Waiting, spots: Sequence[Spot], stay: Stay, floor: Pass, victims: Sequence[Running]
) -> tuple[float | None, tuple[int, ...]]:
    """Plan the job's start where it can be first, and keep that; when and where it is. None when no end is known that
    would do.

    The choice is made anew at every pass; while it is as good as the last one it stays with that. Where the
    start is far off, running jobs of a lower priority that may be preempted make way.
    """
    start = common_start(spots, stay)
    far = start > floor.now + PREEMPT_AFTER_S
    if far and victims and floor.preemptors and _preempt(job, spots, stay, floor, victims):
        floor.preemptors -= 1
        return floor.now, ()
    if start == inf or not floor.holds or floor.now - job.queued_at < HOLD_AFTER_S:
        return None, ()
    floor.holds -= 1
    later = stay.at(start)
    free = able(spots, later)
    chosen = _as_planned(job, free) or free[: job.needs.ranks]
    for spot in chosen:
        spot.keep(later, job.id)
    return start, tuple(spot.node.id for spot in chosen)


def _preempt(
    job: Waiting, spots: Sequence[Spot], stay: Stay, floor: Pass, victims: Sequence[Running]
) -> bool:
    """Have the fewest and youngest make way for the job, and keep their places for it. False when that cannot be."""
    found = [(spot, chosen) for spot in spots if (chosen := _victims(spot, stay, victims)) is not None]
    if len(found) < job.needs.ranks:
        return False
    found.sort(key=lambda each: (len(each[1]), _lost_s(each[1], floor.now), each[0].node.id))
    for spot, chosen in found[: job.needs.ranks]:
        spot.keep_after(stay, job.id, [(each.seats, each.end) for each in chosen])
        _make_way(chosen, job, floor)
    return True


def _make_way(chosen: Sequence[Running], job: Waiting, floor: Pass) -> None:
    leaving = {each.job_id for each in chosen}
    floor.made.preemptions += [
        Preemption(each.job_id, each.generation, f"makes way for job {job.id}") for each in chosen
    ]
    floor.running = [each for each in floor.running if each.job_id not in leaving]


def _victims(spot: Spot, stay: Stay, victims: Sequence[Running]) -> list[Running] | None:
    """Who has to leave this node for the stay: none that need not. None when that would not do."""
    here = [each for each in victims if any(seat.node_id == spot.node.id for seat in each.seats)]
    here.sort(key=lambda each: (each.priority, -each.started_at, each.job_id))
    leaving: list[Running] = []
    while _after(spot, leaving).refusal(stay):
        if len(leaving) == len(here):
            return None
        leaving.append(here[len(leaving)])
    for each in leaving[:-1]:
        fewer = [other for other in leaving if other is not each]
        if not _after(spot, fewer).refusal(stay):
            leaving = fewer
    return leaving


def _after(spot: Spot, leaving: Iterable[Running]) -> Spot:
    for each in leaving:
        spot = spot.without(each.seats, each.end)
    return spot


def _lost_s(chosen: Iterable[Running], now: float) -> float:
    return sum(now - each.started_at for each in chosen)


def _all_busy(spots: Sequence[Spot], free: int, stay: Stay) -> str:
    """The first few nodes that cannot take it now, each with why, and how many more there are."""
    whole = "a device" if stay.needs.ranks == 1 else f"{stay.needs.ranks} nodes at once"
    refusals = ((spot, spot.refusal(stay)) for spot in spots)
    busy = (f"{_place(spot, stay)} {refusal}" for spot, refusal in refusals if refusal)
    return f"waits for {whole}: {several(list(islice(busy, SHOWN)), len(spots) - free)}"


def _place(spot: Spot, stay: Stay) -> str:
    """What the refusal is of: the node when GPUs were asked for, or it is kept as a whole."""
    if stay.needs.gpus or stay.needs.whole_node or spot.closed(stay) or spot.cpu is None:
        return spot.node.name
    return f"{spot.node.name}/{spot.cpu.name}"
