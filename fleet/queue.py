"""Load the heads of the queue, as frozen values: of each class the first few jobs, never every row.

A class is a tenant, a priority and a requirement: its jobs wait for the same thing, the oldest first. Where there are
more classes than are looked at, each tenant's first come first, and the rest in turn: so nobody's wishes, however many
and however impossible, keep another's jobs from being looked at.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session, load_only

from fleet import datasets, run_times, wishes
from fleet.agents.protocol import JobKind
from fleet.lifecycle import JobState
from fleet.models import Attempt, Job, Lease, LeaseGpu, Search
from fleet.order import AGEING_S, Overdue, Waiting
from fleet.requirements import Needs

HEADS = 256  # of each class, at most
CLASSES = 256  # looked at in one tick …
IN_TURN = 64  # … of which so many are others each second, when there are more
TOTAL = 8192  # jobs looked at in one tick, about
# Of a queued job only what its placement depends on is read: specs are large.
_PLACED_BY = load_only(
    Job.generation,
    Job.kind,
    Job.arch,
    Job.target_id,
    Job.node_id,
    Job.threads,
    Job.priority,
    Job.state_at,
    Job.retries,
    Job.reason,
    Job.tenant,
    Job.timeout_s,
    Job.requires,
    Job.not_before,
    Job.name,
    Job.requirement,
    Job.expected_at,
    Job.planned,
    raiseload=True,
)


@dataclass(frozen=True)
class Class:
    """Queued jobs that wait for the same thing, and the oldest of them."""

    tenant: str
    priority: int
    requirement: str
    oldest_at: float
    oldest_id: int

    @property
    def stands(self) -> tuple[float, int]:
        """Sorts by the oldest job's score, but for what all have in common: the lowest goes first."""
        return self.oldest_at / AGEING_S - self.priority, self.oldest_id


def looked_at(classes: Sequence[Class], now: float) -> Sequence[Class]:
    """`CLASSES` of them at most: each tenant's best, then each one's second best, …; of the rest others each second."""
    if len(classes) <= CLASSES:
        return sorted(classes, key=lambda each: each.stands)
    places: Counter[str] = Counter()
    ranked = []
    for each in sorted(classes, key=lambda each: each.stands):
        ranked.append((places[each.tenant], each.stands, each))
        places[each.tenant] += 1
    in_order = [each for _, _, each in sorted(ranked, key=lambda found: found[:2])]
    first, rest = in_order[: CLASSES - IN_TURN], in_order[CLASSES - IN_TURN :]
    begin = int(now) * IN_TURN % len(rest)
    return first + (rest + rest)[begin : begin + IN_TURN]


def waiting(session: Session, now: float) -> tuple[Waiting, ...]:
    """The heads of every class."""
    ready = (Job.state == JobState.QUEUED) & (Job.not_before <= now)
    kinds = (Job.tenant, Job.priority, Job.requirement)
    all_kinds = select(*kinds, func.min(Job.created_at), func.min(Job.id)).where(ready).group_by(*kinds)
    found = looked_at([Class(*row) for row in session.execute(all_kinds)], now)
    heads: list[tuple[Job, float]] = []
    asked_at = func.coalesce(Search.created_at, Job.created_at)
    asked = select(Job, asked_at).outerjoin(Search, Search.id == Job.search_id).options(_PLACED_BY)
    limit = min(HEADS, max(16, TOTAL // max(1, len(found))))
    for each in found:
        same = (Job.tenant == each.tenant) & (Job.priority == each.priority)
        same &= Job.requirement == each.requirement
        heads += session.execute(asked.where(ready, same).order_by(Job.id).limit(limit)).all()
    tried = [job.id for job, _ in heads if job.retries]
    nodes = _avoid(session, tried) if tried else {}
    gpus = _avoid_gpus(session, tried) if tried else {}
    none: frozenset[int] = frozenset()
    ran = run_times.known(session, (run_times.of(job) for job, _ in heads))
    near = datasets.nearness(session, [job.id for job, _ in heads if job.kind == JobKind.COMMAND])
    found_views = (
        view(
            job,
            asked_at,
            nodes.get(job.id, none),
            gpus.get(job.id, none),
            ran.get(run_times.of(job)),
            near.get(job.id, ()),
        )
        for job, asked_at in heads
    )
    alike: dict[Needs, Needs] = {}  # one object for what is equal: they are compared often
    return tuple(replace(each, needs=alike.setdefault(each.needs, each.needs)) for each in found_views)


def view(
    job: Job,
    asked_at: float,
    avoid: frozenset[int] = frozenset(),
    avoid_gpus: frozenset[int] = frozenset(),
    ran: run_times.Known | None = None,
    near: tuple[tuple[int, int], ...] = (),
) -> Waiting:
    """A queued job as placement looks at it."""
    return Waiting(
        id=job.id,
        generation=job.generation,
        needs=wishes.needs(
            job.kind,
            job.requires,
            arch=job.arch,
            target_id=job.target_id,
            node_id=job.node_id,
            threads=job.threads,
        ),
        priority=job.priority,
        asked_at=asked_at,
        queued_at=job.state_at,
        avoid=avoid,
        reason=job.reason,
        tenant=job.tenant,
        timeout_s=job.timeout_s,
        avoid_gpus=avoid_gpus,
        not_before=job.not_before,
        runs_s=ran.mean_s if ran is not None else None,
        expected_at=job.expected_at,
        planned=tuple(job.planned or ()),
        near=near,
    )


def _avoid(session: Session, job_ids: Sequence[int]) -> Mapping[int, frozenset[int]]:
    """The nodes on which each of these jobs was tried before."""
    found: dict[int, set[int]] = defaultdict(set)
    query = select(Attempt.job_id, Attempt.node_id).where(Attempt.job_id.in_(job_ids))
    for job_id, node_id in session.execute(query):
        found[job_id].add(node_id)
    return {job_id: frozenset(tried) for job_id, tried in found.items()}


def _avoid_gpus(session: Session, job_ids: Sequence[int]) -> Mapping[int, frozenset[int]]:
    """The GPUs on which each of these jobs was tried before."""
    found: dict[int, set[int]] = defaultdict(set)
    query = (
        select(Attempt.job_id, LeaseGpu.device_id)
        .join(Lease, Lease.attempt_id == Attempt.id)
        .join(LeaseGpu, LeaseGpu.lease_id == Lease.id)
        .where(Attempt.job_id.in_(job_ids))
    )
    for job_id, device_id in session.execute(query):
        found[job_id].add(device_id)
    return {job_id: frozenset(tried) for job_id, tried in found.items()}


def overdue(session: Session, now: float) -> tuple[Overdue, ...]:
    """Queued jobs that have waited for longer than they were to."""
    late = (Job.state == JobState.QUEUED) & (Job.state_at + Job.queue_timeout_s < now)
    query = select(Job.id, Job.generation, Job.queue_timeout_s).where(late).order_by(Job.id).limit(HEADS)
    return tuple(Overdue(job, generation, limit or 0.0) for job, generation, limit in session.execute(query))
