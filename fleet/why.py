"""Why a job waits: what each node lacks for it, what would have it start, and how many go before it. Pure.

It is the same pass as the one that places jobs, stopped at the job's turn: so what is said here is what was decided on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from fleet.occupancy import Spot, Stay, able
from fleet.order import Account, Waiting
from fleet.placement import Pass, Running, choices, run, within_quota
from fleet.requirements import LIFTABLE, NodeView, misfits

_ASKED_LAST = frozenset({"gpus", "ranks", "slots"})  # what a job can hardly do without
_MOST_LIFTED = 3  # requirements at once, before all that a node fails are
_TIMEOUT = "timeout_s"
_SHORTEST_S = 1.0  # a timeout that anything could have


@dataclass(frozen=True)
class Group:
    """Nodes that cannot take the job now for the same reason. `lasting`: they never could, as they and it are."""

    requirement: str
    problem: str
    nodes: tuple[str, ...]
    lasting: bool


@dataclass(frozen=True)
class Remedy:
    """Without these requirements the job would start at once on these nodes (`at_once`), or could at least run there.

    `timeout_s`: the longest timeout with which it would, when that is one of them.
    """

    lift: tuple[str, ...]
    nodes: tuple[str, ...]
    at_once: bool
    timeout_s: float | None = None


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
    fitting = _fitting(job, floor)
    quota = within_quota(job, fitting, floor)[1]
    starts = _starts(job, floor)
    remedies = () if starts else tuple(_remedies(job, floor, quota))
    return Why(_groups(job, floor), remedies, floor.looked_at, quota, bool(starts))


def _fitting(job: Waiting, floor: Pass) -> list[Spot]:
    return [spot for spot in floor.spots if not misfits(job.needs, spot.node)]


def _open(job: Waiting, fitting: list[Spot], floor: Pass) -> list[Spot]:
    """Where the job could begin now, if it may; nothing where that is too few."""
    preferred, stay = choices(job, fitting, floor.now)
    free = able(preferred, stay)
    return free if len(free) >= job.needs.ranks else []


def _starts(job: Waiting, floor: Pass) -> list[Spot]:
    """Where the job would begin now; nothing where something keeps it."""
    if job.not_before > floor.now:
        return []
    allowed, quota = within_quota(job, _fitting(job, floor), floor)
    return [] if quota else _open(job, allowed, floor)


def _groups(job: Waiting, floor: Pass) -> tuple[Group, ...]:
    found: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
    needs, fitting = job.needs, _fitting(job, floor)
    preferred, stay = choices(job, fitting, floor.now)
    tried_elsewhere = {spot.node.id for spot in preferred}
    for spot in floor.spots:
        lacking = misfits(needs, spot.node)
        for each in lacking:
            found[each.requirement, each.problem, True].append(spot.node.name)
        if not lacking and spot.node.id not in tried_elsewhere:
            found["avoided", "failed it before, and there are others", False].append(spot.node.name)
        elif not lacking and (refusal := spot.refusal(stay)):
            found[_busy(spot, stay), refusal, False].append(spot.node.name)
    if len(fitting) < needs.ranks > 1:
        short = f"a gang of {needs.ranks} nodes, and only {len(fitting)} could ever be one of them"
        found["ranks", short, True] = []
    if job.not_before > floor.now:
        found["retry", f"is tried again in {job.not_before - floor.now:.0f} s", False] = []
    ranked = sorted(found.items(), key=lambda pair: (pair[0][2], -len(pair[1]), pair[0]))
    return tuple(Group(name, problem, tuple(names), lasting) for (name, problem, lasting), names in ranked)


def _busy(spot: Spot, stay: Stay) -> str:
    """What a node that fits is short of now."""
    if spot.closed(stay):
        return "reservation"
    return "kept" if spot.refusal(stay).startswith("is kept") else "free"


# -------------------------------------------------------------------------------------------- remedies


def _without(job: Waiting, lift: Iterable[str]) -> Waiting:
    """The same job without these requirements."""
    for name in lift:
        if name == _TIMEOUT:
            job = replace(job, timeout_s=_SHORTEST_S)
        else:
            job = replace(job, needs=job.needs.lifted(name))
    return job


def _remedies(job: Waiting, floor: Pass, quota: str) -> Iterable[Remedy]:
    """The fewest requirements without which it starts now; else those without which it could run at all."""
    asked = [name for name in (*LIFTABLE, _TIMEOUT) if _without(job, [name]) != job]
    if quota:
        yield Remedy(("quota",), (), at_once=bool(_open(job, _fitting(job, floor), floor)))
    for count in range(1, min(_MOST_LIFTED, len(asked)) + 1):
        found = [_lifted(job, lift, floor) for lift in combinations(asked, count)]
        at_once = [each for each in found if each is not None]
        if at_once:
            yield from sorted(
                at_once, key=lambda each: (not _ASKED_LAST.isdisjoint(each.lift), -len(each.nodes))
            )
            return
    if not quota:
        yield from _rest(job, floor)


def _lifted(job: Waiting, lift: Sequence[str], floor: Pass) -> Remedy | None:
    """What lifting these would do, if it would have the job start now."""
    lighter = _without(job, lift)
    free = _starts(lighter, floor)
    if not free:
        return None
    longest = _longest_s(lighter, job.timeout_s, floor) if _TIMEOUT in lift else None
    return Remedy(tuple(lift), tuple(spot.node.name for spot in free), at_once=True, timeout_s=longest)


def _longest_s(job: Waiting, timeout_s: float, floor: Pass) -> float:
    """The longest timeout with which the job would start now: until something that is planned, or what a quota leaves."""
    begins = {keep.start for spot in floor.spots for keep in spot.keeps}
    begins |= {window.start for spot in floor.spots for window in spot.node.windows}
    account, gpus = floor.book.account(job.tenant), job.needs.gpus * job.needs.ranks
    if account.gpu_s_left is not None and gpus:
        begins.add(floor.now + (account.gpu_s_left - account.promised_gpu_s) // gpus)
    for end in sorted((each for each in begins if each < floor.now + timeout_s), reverse=True):
        longest = float(int(end - floor.now))
        if longest >= _SHORTEST_S and _starts(replace(job, timeout_s=longest), floor):
            return longest
    return _SHORTEST_S


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
