"""Every state machine of the fleet, as tables. Pure: nothing here reads a clock or writes a row.

`advance` is the only function that computes a next state. A transient state is one that somebody else has to
end; each names what bounds it and the event that rescues it, so that nothing can be stuck unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fleet.errors import InvalidTransition


class JobState(StrEnum):
    """A job: what was asked. Each try at it is an attempt."""

    BLOCKED = "blocked"  # waits for other jobs; `reason` says which
    QUEUED = "queued"  # waits for a device; `reason` says why it has none yet
    LEASED = "leased"  # an attempt holds a lease; its node has not said that it started
    RUNNING = "running"  # the node runs it
    PREEMPTING = (
        "preempting"  # makes way for a job of a higher priority; its nodes have not all said that it stopped
    )
    STOPPING = "stopping"  # one of its ranks has ended; the others have not all stopped
    CANCELLING = "cancelling"  # somebody asked to stop; the node has not said that it stopped
    SUCCEEDED = "succeeded"  # final
    FAILED = "failed"  # final; `outcome` and `error` say how
    CANCELLED = "cancelled"  # final


class JobEvent(StrEnum):
    """What happens to a job."""

    BLOCK = "block"
    UNBLOCK = "unblock"
    LEASE = "lease"
    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    PREEMPT = "preempt"
    BREAK = "break"
    CANCEL = "cancel"
    STOP = "stop"


class AttemptState(StrEnum):
    """An attempt: one try at a job, under one lease with one fence."""

    LEASED = "leased"  # the node should start it
    RUNNING = "running"  # the node runs it
    ENDED = "ended"  # final; `outcome` says how


class AttemptEvent(StrEnum):
    """What happens to an attempt."""

    START = "start"
    END = "end"


class NodeState(StrEnum):
    """A node's lifecycle; cordoned and contact are other axes."""

    ENROLLED = "enrolled"  # has an identity, has not synced yet
    READY = "ready"  # takes work, unless cordoned
    DRAINING = "draining"  # takes nothing new; what runs may finish
    DRAINED = "drained"  # runs nothing and takes nothing
    RETIRED = "retired"  # final; its keys are ended


class NodeEvent(StrEnum):
    """What happens to a node."""

    REPORT = "report"
    DRAIN = "drain"
    EMPTY = "empty"
    UNCORDON = "uncordon"
    RETIRE = "retire"


class SearchState(StrEnum):
    """A BEAM search of one kernel."""

    QUEUED = "queued"  # waits for a node of its target; `reason` says what for
    RUNNING = "running"  # its rounds advance, and its budget counts
    DONE = "done"  # final: a confirmed tuned kernel, found or already known
    FAILED = "failed"  # final; `error` says how
    CANCELLED = "cancelled"  # final


class SearchEvent(StrEnum):
    """What happens to a search."""

    START = "start"
    HIT = "hit"
    CONFIRM = "confirm"
    FAIL = "fail"
    CANCEL = "cancel"


class GrantState(StrEnum):
    """A grant: one person's one key on a node or a pool, until a moment."""

    REQUESTED = "requested"  # somebody asked; nobody has decided
    DENIED = "denied"  # final; it was refused or taken back
    ACTIVE = "active"  # its nodes let the key in
    REVOKING = "revoking"  # no node should; some have not said that they do not
    REVOKED = "revoked"  # final; every node has said that it is gone
    EXPIRED = "expired"  # final; its time is over, which each node keeps by itself


class GrantEvent(StrEnum):
    """What happens to a grant."""

    APPROVE = "approve"
    DENY = "deny"
    REVOKE = "revoke"
    GONE = "gone"
    EXPIRE = "expire"


@dataclass(frozen=True)
class Rescue:
    """What bounds a transient state, in words, and the event fired when that bound is passed."""

    bound: str
    event: StrEnum


@dataclass(frozen=True)
class Machine:
    """One state machine: its name, where it begins, its edges, and the rescue of each transient state."""

    name: str
    initial: StrEnum
    edges: Mapping[StrEnum, Mapping[StrEnum, StrEnum]]
    rescues: Mapping[StrEnum, Rescue] = field(default_factory=dict)

    @property
    def states(self) -> tuple[StrEnum, ...]:
        """Every state, in the table's order."""
        return tuple(self.edges)

    @property
    def final(self) -> frozenset[StrEnum]:
        """States without a way out."""
        return frozenset(state for state, exits in self.edges.items() if not exits)


JOB = Machine(
    "job",
    JobState.QUEUED,
    {
        JobState.BLOCKED: {
            JobEvent.UNBLOCK: JobState.QUEUED,
            JobEvent.FAIL: JobState.FAILED,
            JobEvent.CANCEL: JobState.CANCELLED,
        },
        JobState.QUEUED: {
            JobEvent.BLOCK: JobState.BLOCKED,
            JobEvent.LEASE: JobState.LEASED,
            JobEvent.FAIL: JobState.FAILED,
            JobEvent.CANCEL: JobState.CANCELLED,
        },
        JobState.LEASED: {
            JobEvent.START: JobState.RUNNING,
            JobEvent.SUCCEED: JobState.SUCCEEDED,
            JobEvent.FAIL: JobState.FAILED,
            JobEvent.RETRY: JobState.QUEUED,
            JobEvent.PREEMPT: JobState.PREEMPTING,
            JobEvent.BREAK: JobState.STOPPING,
            JobEvent.CANCEL: JobState.CANCELLING,
        },
        JobState.RUNNING: {
            JobEvent.SUCCEED: JobState.SUCCEEDED,
            JobEvent.FAIL: JobState.FAILED,
            JobEvent.RETRY: JobState.QUEUED,
            JobEvent.PREEMPT: JobState.PREEMPTING,
            JobEvent.BREAK: JobState.STOPPING,
            JobEvent.CANCEL: JobState.CANCELLING,
        },
        JobState.PREEMPTING: {
            JobEvent.RETRY: JobState.QUEUED,
            JobEvent.SUCCEED: JobState.SUCCEEDED,
            JobEvent.CANCEL: JobState.CANCELLING,
        },
        JobState.STOPPING: {
            JobEvent.RETRY: JobState.QUEUED,
            JobEvent.FAIL: JobState.FAILED,
            JobEvent.CANCEL: JobState.CANCELLING,
        },
        JobState.CANCELLING: {JobEvent.STOP: JobState.CANCELLED},
        JobState.SUCCEEDED: {},
        JobState.FAILED: {},
        JobState.CANCELLED: {},
    },
    {
        JobState.LEASED: Rescue("lease time plus grace without a start, or a lost node", JobEvent.RETRY),
        JobState.RUNNING: Rescue("the job's timeout plus lease time, or a lost node", JobEvent.FAIL),
        JobState.PREEMPTING: Rescue("lease time plus grace without a word, or a lost node", JobEvent.RETRY),
        JobState.STOPPING: Rescue("lease time plus grace without a word, or a lost node", JobEvent.FAIL),
        JobState.CANCELLING: Rescue("lease time plus grace without a word, or a lost node", JobEvent.STOP),
    },
)

ATTEMPT = Machine(
    "attempt",
    AttemptState.LEASED,
    {
        AttemptState.LEASED: {
            AttemptEvent.START: AttemptState.RUNNING,
            AttemptEvent.END: AttemptState.ENDED,
        },
        AttemptState.RUNNING: {AttemptEvent.END: AttemptState.ENDED},
        AttemptState.ENDED: {},
    },
    {
        AttemptState.LEASED: Rescue(
            "lease time plus grace without a start, or a lost node", AttemptEvent.END
        ),
        AttemptState.RUNNING: Rescue("the job's timeout plus lease time, or a lost node", AttemptEvent.END),
    },
)

NODE = Machine(
    "node",
    NodeState.ENROLLED,
    {
        NodeState.ENROLLED: {NodeEvent.REPORT: NodeState.READY, NodeEvent.RETIRE: NodeState.RETIRED},
        NodeState.READY: {NodeEvent.DRAIN: NodeState.DRAINING},
        NodeState.DRAINING: {NodeEvent.EMPTY: NodeState.DRAINED, NodeEvent.UNCORDON: NodeState.READY},
        NodeState.DRAINED: {NodeEvent.UNCORDON: NodeState.READY, NodeEvent.RETIRE: NodeState.RETIRED},
        NodeState.RETIRED: {},
    },
    {NodeState.DRAINING: Rescue("the timeouts of the attempts it still runs", NodeEvent.EMPTY)},
)

SEARCH = Machine(
    "search",
    SearchState.QUEUED,
    {
        SearchState.QUEUED: {
            SearchEvent.START: SearchState.RUNNING,
            SearchEvent.HIT: SearchState.DONE,
            SearchEvent.CANCEL: SearchState.CANCELLED,
        },
        SearchState.RUNNING: {
            SearchEvent.CONFIRM: SearchState.DONE,
            SearchEvent.HIT: SearchState.DONE,
            SearchEvent.FAIL: SearchState.FAILED,
            SearchEvent.CANCEL: SearchState.CANCELLED,
        },
        SearchState.DONE: {},
        SearchState.FAILED: {},
        SearchState.CANCELLED: {},
    },
    {SearchState.RUNNING: Rescue("the budget plus ten minutes", SearchEvent.FAIL)},
)

# A job that an attempt of may still hold devices, and one that its nodes should run.
HOLDING = (
    JobState.LEASED,
    JobState.RUNNING,
    JobState.PREEMPTING,
    JobState.STOPPING,
    JobState.CANCELLING,
)
DESIRED = (JobState.LEASED, JobState.RUNNING)
GRANT = Machine(
    "grant",
    GrantState.REQUESTED,
    {
        GrantState.REQUESTED: {
            GrantEvent.APPROVE: GrantState.ACTIVE,
            GrantEvent.DENY: GrantState.DENIED,
            GrantEvent.EXPIRE: GrantState.EXPIRED,
        },
        GrantState.DENIED: {},
        GrantState.ACTIVE: {
            GrantEvent.REVOKE: GrantState.REVOKING,
            GrantEvent.EXPIRE: GrantState.EXPIRED,
        },
        GrantState.REVOKING: {
            GrantEvent.GONE: GrantState.REVOKED,
            GrantEvent.EXPIRE: GrantState.EXPIRED,
        },
        GrantState.REVOKED: {},
        GrantState.EXPIRED: {},
    },
    {
        GrantState.REQUESTED: Rescue("two weeks without a decision", GrantEvent.EXPIRE),
        GrantState.ACTIVE: Rescue("its end, which every node keeps without us", GrantEvent.EXPIRE),
        GrantState.REVOKING: Rescue("its end, which a silent node keeps without us", GrantEvent.EXPIRE),
    },
)

MACHINES = (JOB, ATTEMPT, NODE, SEARCH, GRANT)


def advance(machine: Machine, state: str, event: StrEnum) -> StrEnum:
    """The state that follows; InvalidTransition lists what the state accepts."""
    exits = next(exits for each, exits in machine.edges.items() if each == state)
    if event not in exits:
        raise InvalidTransition(machine.name, state, event, tuple(exits))
    return exits[event]


def diagram(machine: Machine) -> str:
    """The machine as text for the docs: a line for each edge, and what rescues a state that somebody else has to end."""
    lines = [
        f"{state:<12} {event:<8} → {after}"
        for state, exits in machine.edges.items()
        for event, after in exits.items()
    ]
    bounds = [f"{state:<12} at most  {rescue.bound}" for state, rescue in machine.rescues.items()]
    return "\n".join([*lines, "", *bounds])
