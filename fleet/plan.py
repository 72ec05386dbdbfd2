"""What should happen next. Pure: a snapshot and the time in, actions out; fleet/reconcile.py writes them.

Ends come first (a lost node's work is free again), then the steps of searches, then placements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fleet import blocking, forecast
from fleet.advance import SearchView, Start, Step, advance
from fleet.agents.protocol import Outcome
from fleet.blocking import ArrayView, Blocked, Drop, Make, Unblock
from fleet.confirming import ClaimView, ConfirmingStep, confirming
from fleet.lifecycle import AttemptState, NodeState, SearchState
from fleet.order import Account, Overdue, Waiting
from fleet.placement import Delay, Placement, Preemption, Running, decide
from fleet.requirements import NodeView


@dataclass(frozen=True)
class Limits:
    """The times that bound transient states, in seconds (see fleet/settings.py)."""

    lease_s: float
    grace_s: float

    @property
    def lost_s(self) -> float:
        """Silence after which leases are given away."""
        return self.lease_s + self.grace_s


@dataclass(frozen=True)
class AttemptView:
    """An attempt that has not ended. Times are epoch seconds; `renewed_at` is the node's last sync."""

    id: int
    generation: int
    node_id: int
    node: str
    state: str
    granted_at: float
    renewed_at: float
    timeout_s: float
    started_at: float | None = None
    cancelling_at: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """What the planner looks at: the fleet, what it runs, the heads of the queue, and the live searches.

    `up_since` is when the control plane started, epoch seconds: before it nobody could have been heard, so that
    no silence counts from earlier.
    """

    nodes: tuple[NodeView, ...]
    attempts: tuple[AttemptView, ...]
    waiting: tuple[Waiting, ...]
    searches: tuple[SearchView, ...]
    limits: Limits
    up_since: float = 0.0
    claims: tuple[ClaimView, ...] = ()  # tuned kernels that nobody has confirmed
    running: tuple[Running, ...] = ()
    accounts: Mapping[str, Account] = field(default_factory=dict)
    overdue: tuple[Overdue, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    arrays: tuple[ArrayView, ...] = ()


@dataclass(frozen=True)
class EndAttempt:
    """The control plane ends an attempt that its node did not end in time."""

    attempt_id: int
    generation: int
    outcome: Outcome
    error: str


@dataclass(frozen=True)
class Empty:
    """A draining node runs nothing any more."""

    node_id: int


@dataclass(frozen=True)
class Contacted:
    """A node's contact is no longer what the last event about it said."""

    node_id: int
    contact: str


@dataclass(frozen=True)
class Plan:
    """Actions, in the order in which they are written."""

    ends: tuple[EndAttempt, ...] = ()
    emptied: tuple[Empty, ...] = ()
    contacts: tuple[Contacted, ...] = ()
    steps: tuple[Step, ...] = ()
    confirmations: tuple[ConfirmingStep, ...] = ()
    placements: tuple[Placement, ...] = ()
    delays: tuple[Delay, ...] = ()
    preemptions: tuple[Preemption, ...] = ()  # a job may be there twice: the second is stale
    overdue: tuple[Overdue, ...] = ()
    unblocked: tuple[Unblock, ...] = ()
    made: tuple[Make, ...] = ()
    dropped: tuple[Drop, ...] = ()

    @property
    def frees_or_makes_work(self) -> bool:
        """True when there may be something to place right after this plan is written."""
        return bool(self.ends or self.steps or self.confirmations or self.unblocked or self.made)


def plan(snapshot: Snapshot, now: float) -> Plan:
    """The actions that a snapshot calls for."""
    late = {job.job_id for job in snapshot.overdue}
    queued = [job for job in snapshot.waiting if job.id not in late]
    made = decide(queued, snapshot.nodes, now, snapshot.accounts, snapshot.running)
    delays = _delays(snapshot, queued, made.delays, now)
    return Plan(
        ends=_ends(snapshot, now),
        emptied=_emptied(snapshot),
        contacts=_contacts(snapshot.nodes),
        steps=_steps(snapshot, now),
        confirmations=confirming(snapshot.claims, snapshot.nodes),
        placements=tuple(made.placements),
        delays=delays,
        preemptions=(*_evictions(snapshot, now), *made.preemptions),
        overdue=snapshot.overdue,
        unblocked=blocking.unblocked(snapshot.blocked),
        made=blocking.made(snapshot.arrays),
        dropped=blocking.dropped(snapshot.arrays),
    )


def _evictions(snapshot: Snapshot, now: float) -> tuple[Preemption, ...]:
    """Who still runs where nothing may run any more: their nodes' deadlines have passed, or maintenance has begun."""
    shut = {node.id: why for node in snapshot.nodes if (why := _shut(node, now))}
    found = {
        job: next((shut[seat.node_id] for seat in job.seats if seat.node_id in shut), "")
        for job in snapshot.running
    }
    return tuple(Preemption(job.job_id, job.generation, why) for job, why in found.items() if why)


def _shut(node: NodeView, now: float) -> str:
    """Why what runs on a node has to leave it."""
    if node.state == NodeState.DRAINING and node.drain_by is not None and node.drain_by <= now:
        return f"node {node.name} was to be drained by now"
    if any(window.tenant is None and window.start <= now < window.end for window in node.windows):
        return f"node {node.name} is in maintenance"
    return ""


def _delays(
    snapshot: Snapshot, queued: Sequence[Waiting], made: Sequence[Delay], now: float
) -> tuple[Delay, ...]:
    """What is news of those that wait: the reason, where a start is planned, and at first when it likely will be."""
    jobs = {job.id: job for job in queued}
    told = [jobs[delay.job_id] for delay in made]  # in order
    fresh = [job for job in told[: forecast.AHEAD] if job.expected_at is None and not job.reason]
    likely = forecast.starts(told, snapshot.nodes, snapshot.running, now) if fresh else {}
    first = {job.id: likely[job.id] for job in fresh if job.id in likely}
    return tuple(
        replace(delay, expected_at=first.get(delay.job_id))
        for delay in made
        if delay.job_id in first
        or (delay.reason, delay.nodes) != (jobs[delay.job_id].reason, jobs[delay.job_id].planned)
    )


def _ends(snapshot: Snapshot, now: float) -> tuple[EndAttempt, ...]:
    verdicts = (
        (attempt, _overdue(attempt, snapshot.limits, snapshot.up_since, now)) for attempt in snapshot.attempts
    )
    return tuple(
        EndAttempt(attempt.id, attempt.generation, *verdict) for attempt, verdict in verdicts if verdict
    )


def _overdue(attempt: AttemptView, limits: Limits, up_since: float, now: float) -> tuple[Outcome, str] | None:
    """How an attempt has to end because a bound of its state has passed, and why; None while none has."""
    silence = now - max(attempt.granted_at, attempt.renewed_at, up_since)
    if silence > limits.lost_s:
        return Outcome.NODE_LOST, f"node {attempt.node} was silent for {silence:.0f} s"
    if attempt.cancelling_at is not None:
        late = now - max(attempt.cancelling_at, up_since) > limits.lost_s
        return (Outcome.CANCELLED, f"node {attempt.node} did not confirm the stop") if late else None
    if attempt.state == AttemptState.LEASED:
        late = now - max(attempt.granted_at, up_since) > limits.lost_s
        return (Outcome.INFRA_FAILED, f"node {attempt.node} did not start it") if late else None
    deadline = (attempt.started_at or attempt.granted_at) + attempt.timeout_s + limits.lease_s
    if now > max(deadline, up_since + limits.lost_s):
        return Outcome.TIMED_OUT, f"it ran for longer than its timeout of {attempt.timeout_s:.0f} s"
    return None


def _emptied(snapshot: Snapshot) -> tuple[Empty, ...]:
    busy = {attempt.node_id for attempt in snapshot.attempts}
    draining = (node for node in snapshot.nodes if node.state == NodeState.DRAINING)
    return tuple(Empty(node.id) for node in draining if node.id not in busy)


def _contacts(nodes: Sequence[NodeView]) -> tuple[Contacted, ...]:
    return tuple(Contacted(node.id, node.contact) for node in nodes if node.contact != node.told_contact)


def _steps(snapshot: Snapshot, now: float) -> tuple[Step, ...]:
    running = Counter(
        search.target_id
        for search in snapshot.searches
        if search.state == SearchState.RUNNING and search.target_id
    )
    return tuple(_advance_all(snapshot.searches, snapshot.nodes, running, now))


def _advance_all(
    searches: Sequence[SearchView], nodes: Sequence[NodeView], running: Counter[str], now: float
) -> list[Step]:
    steps = []
    for search in searches:
        step = advance(search, nodes, running, now)
        if isinstance(step, Start):
            running[step.target_id] += 1
        if step is not None:
            steps.append(step)
    return steps
