"""Why a job waits: what each node lacks for it, what would have it start, and how many go before it. Pure.

It is the same pass as the one that places jobs, stopped at the job's turn: so what is said here is what was decided on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from fleet.occupancy import Spot, Stay
from fleet.order import Account, Waiting
from fleet.placement import Pass, Running, run
from fleet.requirements import LIFTABLE, Needs, NodeView, misfits

_ASKED_LAST = frozenset({"gpus", "ranks", "slots"})  # what a job can hardly do without
_MOST_LIFTED = 3  # requirements at once, before all that a node fails are


@dataclass(frozen=True)
class Group:
    """Nodes that cannot take the job now for the same reason. `lasting`: they never could, as they and it are."""

    requirement: str
    problem: str
    nodes: tuple[str, ...]
    lasting: bool


@dataclass(frozen=True)
class Remedy:
    """Without these requirements the job would start at once on these nodes (`at_once`), or could at least run there."""

    lift: tuple[str, ...]
    nodes: tuple[str, ...]
    at_once: bool


@dataclass(frozen=True)
class Why:
    """Why a job waits. `ahead`: jobs that are looked at before it; `quota`: which one keeps it, if one does."""

    groups: tuple[Group, ...]
    remedies: tuple[Remedy, ...]
    ahead: int
    quota: str
    would_start: bool


def explain(
    job: Waiting,
    jobs: Iterable[Waiting],
    nodes: Sequence[NodeView],
    now: float,
    accounts: Mapping[str, Account] | None = None,
    running: Sequence[Running] = (),
) -> Why:
    """Why `job`, which is among `jobs` or not yet, does not start in the pass over them."""
    others = [each for each in jobs if each.id != job.id]
    floor = run([*others, job], nodes, now, accounts, running, until=job.id)
    quota = floor.book.account(job.tenant).refusal(job.needs)
    groups = _groups(job.needs, job, floor)
    free = _open(job.needs, job, floor)
    remedies = () if len(free) >= job.needs.ranks and not quota else tuple(_remedies(job, floor, quota))
    return Why(groups, remedies, floor.looked_at, quota, len(free) >= job.needs.ranks and not quota)


def _stay(needs: Needs, job: Waiting, floor: Pass) -> Stay:
    return Stay(needs, job.tenant, floor.now, floor.now + job.timeout_s)


def _open(needs: Needs, job: Waiting, floor: Pass) -> list[Spot]:
    """Where the job could begin now."""
    stay = _stay(needs, job, floor)
    return [spot for spot in floor.spots if not misfits(needs, spot.node) and not spot.refusal(stay)]


def _groups(needs: Needs, job: Waiting, floor: Pass) -> tuple[Group, ...]:
    found: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
    stay = _stay(needs, job, floor)
    for spot in floor.spots:
        lacking = misfits(needs, spot.node)
        for each in lacking:
            found[each.requirement, each.problem, True].append(spot.node.name)
        if not lacking and (refusal := spot.refusal(stay)):
            found[_busy(spot, stay), refusal, False].append(spot.node.name)
    able = sum(not misfits(needs, spot.node) for spot in floor.spots)
    if able < needs.ranks > 1:
        found["ranks", f"a gang of {needs.ranks} nodes, and only {able} could ever be one of them", True] = []
    ranked = sorted(found.items(), key=lambda pair: (pair[0][2], -len(pair[1]), pair[0]))
    return tuple(Group(name, problem, tuple(names), lasting) for (name, problem, lasting), names in ranked)


def _busy(spot: Spot, stay: Stay) -> str:
    """What a node that fits is short of now."""
    if spot.closed(stay):
        return "reservation"
    return "kept" if spot.refusal(stay).startswith("is kept") else "free"


# -------------------------------------------------------------------------------------------- remedies


def _remedies(job: Waiting, floor: Pass, quota: str) -> Iterable[Remedy]:
    """The fewest requirements without which it starts now; else those without which it could run at all."""
    asked = [name for name in LIFTABLE if job.needs.lifted(name) != job.needs]
    if quota:
        without_gpus = "gpus" in asked and not floor.book.account(job.tenant).refusal(
            job.needs.lifted("gpus")
        )
        yield Remedy(("quota",), (), at_once=len(_open(job.needs, job, floor)) >= job.needs.ranks)
        if not without_gpus:
            return
    for count in range(1, min(_MOST_LIFTED, len(asked)) + 1):
        found = [_lifted(job, lift, floor) for lift in combinations(asked, count)]
        at_once = [each for each in found if each is not None and each.at_once]
        if at_once:
            yield from sorted(
                at_once, key=lambda each: (not _ASKED_LAST.isdisjoint(each.lift), -len(each.nodes))
            )
            return
    yield from _rest(job, floor)


def _lifted(job: Waiting, lift: Sequence[str], floor: Pass) -> Remedy | None:
    needs = job.needs
    for name in lift:
        needs = needs.lifted(name)
    free = _open(needs, job, floor)
    if len(free) < needs.ranks or floor.book.account(job.tenant).refusal(needs):
        return None
    return Remedy(tuple(lift), tuple(spot.node.name for spot in free), at_once=True)


def _rest(job: Waiting, floor: Pass) -> Iterable[Remedy]:
    """Where nothing helps at once: all that a node fails, the nodes that fail least first."""
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for spot in floor.spots:
        lacking = tuple(sorted({each.requirement for each in misfits(job.needs, spot.node)}))
        if lacking and "available" not in lacking:
            found[lacking].append(spot.node.name)
    for lift, names in sorted(found.items(), key=lambda pair: (len(pair[0]), -len(pair[1]))):
        remedy = _lifted(job, lift, floor)
        yield remedy or Remedy(lift, tuple(names), at_once=False)
