"""The tables of scheduling: labels of nodes, what tenants may and did hold, what waits for what, arrays, windows."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet.schema import Table, one_of, partial_index


class After(StrEnum):
    """What a job that waits for another wants of its end."""

    ANY = "after_any"  # it has ended, whatever became of it
    OK = "after_ok"  # it has succeeded; if it does not, the job that waits fails
    STARTED = "after"  # it has begun to run


class Leader(Table):
    """Which server decides, until then (epoch seconds by the database's clock)."""

    __tablename__ = "leaders"
    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    until: Mapped[float]


class NodeLabels(Table):
    """What an operator put on a node for jobs to ask for: key to value."""

    __tablename__ = "node_labels"
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    labels: Mapped[dict[str, Any]] = mapped_column(default=dict)


class LeaseGpu(Table):
    """A GPU that a lease holds, besides its share of the node's cpu. The index is the rule that no GPU has two."""

    __tablename__ = "lease_gpus"
    id: Mapped[int] = mapped_column(primary_key=True)
    lease_id: Mapped[int] = mapped_column(ForeignKey("leases.id"), index=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"))
    released_at: Mapped[float | None]
    __table_args__ = (
        partial_index("uq_lease_gpus_held", "device_id", where="released_at IS NULL", unique=True),
    )


class Quota(Table):
    """What a tenant may have; NULL is without a limit. `gpu_seconds` are of each period of `period_s`."""

    __tablename__ = "quotas"
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), primary_key=True)
    weight: Mapped[float] = mapped_column(default=1.0)
    max_gpus: Mapped[int | None]
    gpu_seconds: Mapped[float | None]
    period_s: Mapped[float] = mapped_column(default=30 * 86_400.0)
    max_queued: Mapped[int | None]


class Use(Table):
    """What a tenant's ended leases held, decayed to the time `at`: seconds of GPUs and of CPU slots."""

    __tablename__ = "uses"
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), primary_key=True)
    gpu_s: Mapped[float] = mapped_column(default=0.0)
    slot_s: Mapped[float] = mapped_column(default=0.0)
    at: Mapped[float]


class RunTime(Table):
    """How long jobs of one kind have run of late: seconds, the mean and the mean distance from it; newer ones count more.

    The row `FORECAST` is about guesses: how much later than guessed jobs have started, and how far off that was.
    """

    __tablename__ = "run_times"
    key: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
    mean_s: Mapped[float]
    deviation_s: Mapped[float]


class UsageDay(Table):
    """What a tenant's ended leases held of a node on one day (days since the epoch, UTC): busy is while it ran."""

    __tablename__ = "usage_days"
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), primary_key=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)
    gpu_leased_s: Mapped[float] = mapped_column(default=0.0)
    gpu_busy_s: Mapped[float] = mapped_column(default=0.0)
    slot_s: Mapped[float] = mapped_column(default=0.0)
    attempts: Mapped[int] = mapped_column(default=0)
    joules: Mapped[float] = mapped_column(default=0.0)
    throttled_s: Mapped[float] = mapped_column(default=0.0)


class Dependency(Table):
    """A job waits for another."""

    __tablename__ = "dependencies"
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    on_job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), primary_key=True, index=True)
    kind: Mapped[str]
    __table_args__ = (one_of("kind", After),)


class ArrayDependency(Table):
    """A job waits for an array."""

    __tablename__ = "array_dependencies"
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    on_array_id: Mapped[int] = mapped_column(ForeignKey("job_arrays.id"), primary_key=True)
    kind: Mapped[str]
    __table_args__ = (one_of("kind", After),)


class JobArray(Table):
    """Many jobs that differ in their index only. Their rows are made a few at a time: `made` of `size` so far.

    `template` are the arguments of each; `parallel`: at most so many unfinished ones at a time. `waits_for`: ids of
    jobs and arrays by what is wanted of them, as a request gives them; `error`: why none of its jobs will be made.
    """

    __tablename__ = "job_arrays"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    name: Mapped[str | None]
    template: Mapped[dict[str, Any]]
    size: Mapped[int]
    made: Mapped[int] = mapped_column(default=0)
    parallel: Mapped[int]
    created_by: Mapped[str]
    created_at: Mapped[float]
    cancelled_at: Mapped[float | None]
    waits_for: Mapped[dict[str, Any] | None]
    error: Mapped[str | None]
    __table_args__ = (
        CheckConstraint("made >= 0 AND made <= size", name="made_within_size"),
        partial_index("ix_job_arrays_unmade", "id", where="made < size"),
    )


class NodeWindow(Table):
    """Nodes are kept for a tenant (a reservation) or for work on them (maintenance) from then until then."""

    __tablename__ = "node_windows"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    tenant: Mapped[str | None] = mapped_column(ForeignKey("tenants.name"))
    node_ids: Mapped[list[Any]]
    starts_at: Mapped[float]
    ends_at: Mapped[float] = mapped_column(index=True)
    reason: Mapped[str] = mapped_column(default="")
    created_by: Mapped[str]
    created_at: Mapped[float]
    cancelled_at: Mapped[float | None]
    __table_args__ = (
        one_of("kind", ["reservation", "maintenance"]),
        CheckConstraint("(kind = 'reservation') = (tenant IS NOT NULL)", name="reserved_for_a_tenant"),
        CheckConstraint("ends_at > starts_at", name="ends_after_its_start"),
    )
