"""What the API answers about scheduling: why a job waits, what tenants may have and have had, arrays, windows."""

from __future__ import annotations

from pydantic import Field

from fleet.resources import Resource, Timestamp


class WhyGroup(Resource):
    """Nodes that cannot take the job now for one and the same reason."""

    requirement: str = Field(
        description="what is not met: a requirement's name, available, ranks, or for now: free, kept, reservation"
    )
    problem: str
    nodes: list[str]
    lasting: bool = Field(description="it cannot run there at all, as the node and the job are")


class WhyRemedy(Resource):
    """Requirements without which it could start."""

    lift: list[str]
    nodes: list[str]
    at_once: bool = Field(description="it would start now; else it would wait, but could run there")
    timeout_s: float | None = Field(
        default=None, description="the longest timeout with which it would, when that is one of them"
    )


class Guesses(Resource):
    """How well starts were guessed so far: of jobs that have started."""

    count: int
    late_s: float = Field(
        description="how much later than guessed they started, on average; earlier is negative"
    )
    off_s: float = Field(description="how far off the guesses were, on average")


class Why(Resource):
    """Why a job waits."""

    job_id: int
    state: str
    reason: str
    ahead: int = Field(default=0, description="jobs that are looked at before it")
    queued: int = Field(description="jobs that wait, of all tenants")
    quota: str = Field(default="", description="the quota that keeps it, if one does")
    waits_for: list[int] = Field(default_factory=list, description="jobs that have to end first")
    waits_for_arrays: list[int] = Field(default_factory=list, description="arrays that have to end first")
    would_start: bool = Field(default=False, description="nothing keeps it: it starts with the next look")
    groups: list[WhyGroup] = Field(default_factory=list)
    remedies: list[WhyRemedy] = Field(default_factory=list)
    planned_at: Timestamp | None = Field(
        default=None,
        description="by then it starts, for devices are kept for it; nobody behind it delays that",
    )
    expected_at: Timestamp | None = Field(
        default=None, description="when it likely starts, by how long such jobs have run"
    )
    likely_s: float | None = Field(default=None, description="how long such jobs have run")
    guesses: Guesses | None = None


class QuotaLimits(Resource):
    """What a tenant may have; null is without a limit."""

    weight: float = 1.0
    max_gpus: int | None = None
    gpu_seconds: float | None = None
    period_s: float = 30 * 86_400.0
    max_queued: int | None = None


class TenantQuota(QuotaLimits):
    """What a tenant may have, and what it has now."""

    tenant: str
    held_gpus: int = 0
    held_slots: int = 0
    queued: int = 0
    gpu_seconds_left: float | None = None
    share: float = Field(default=0.0, description="of the resource it has most of, now and of late")


class TenantPage(Resource):
    """Some of the tenants; `next` is a name."""

    items: list[TenantQuota]
    next: str | None = None


class UsageRow(Resource):
    """What a tenant held of a node."""

    tenant: str
    node: str
    gpu_leased_s: float
    gpu_busy_s: float = Field(description="while an attempt ran")
    slot_s: float = Field(description="of CPU slots")
    attempts: int
    joules: float = Field(
        default=0.0, description="what the GPUs of attempts that ended drew, where they say"
    )
    throttled_s: float = Field(default=0.0, description="for which their clocks were held down meanwhile")


class UsageNode(Resource):
    """A node's GPU-seconds."""

    node: str
    gpus: int
    gpu_s: float = Field(description="all there were")
    leased_s: float
    busy_s: float
    idle_s: float
    quarantined_s: float
    joules: float = Field(default=0.0, description="of attempts that ended")
    throttled_s: float = 0.0


class Usage(Resource):
    """Who held what from one time until another."""

    since: Timestamp
    until: Timestamp
    tenants: list[UsageRow]
    nodes: list[UsageNode] = Field(description="for the tenant that the machines belong to")


class Array(Resource):
    """Many jobs that differ in their index only."""

    id: int
    name: str | None = None
    size: int
    parallel: int = Field(description="at most so many at a time")
    states: dict[str, int] = Field(description="how many of its jobs are in which state")
    unmade: int = Field(description="how many have yet to be queued")
    created_at: Timestamp
    cancelled_at: Timestamp | None = None
    waits_for: dict[str, list[int]] = Field(
        default_factory=dict, description="jobs and arrays that it waits for, as it was asked for"
    )
    error: str = Field(default="", description="why none of its jobs will be queued")

    @property
    def finished(self) -> bool:
        """True when all of its jobs have ended."""
        return not self.unmade and set(self.states) <= {"succeeded", "failed", "cancelled"}


class Window(Resource):
    """Nodes that are kept for a tenant (a reservation), or for work on them (maintenance)."""

    id: int
    kind: str
    tenant: str | None = None
    nodes: list[str]
    starts_at: Timestamp
    ends_at: Timestamp
    reason: str = ""
    created_by: str
    cancelled_at: Timestamp | None = None
