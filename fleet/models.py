"""What is true: the control plane's tables. Timestamps are float epoch seconds; hashes are hex text.

A guarded row has a `generation`; every write of its `state` names the generation it read (fleet/firing.py).
Large sets, such as the candidates of a round, are JSON in one row: never a row a candidate.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, FetchedValue, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from fleet.access_rows import Grant as Grant
from fleet.access_rows import GrantNode as GrantNode
from fleet.access_rows import LoginAccount as LoginAccount
from fleet.access_rows import NodeAccess as NodeAccess
from fleet.access_rows import SshAuthority as SshAuthority
from fleet.access_rows import SshCertificate as SshCertificate
from fleet.access_rows import SshKey as SshKey
from fleet.agents.protocol import CandidateOutcome, JobKind, Outcome
from fleet.audit_rows import Audit as Audit
from fleet.audit_rows import AuditSeal as AuditSeal
from fleet.box_rows import Acceptance as Acceptance
from fleet.box_rows import Box as Box
from fleet.cron_rows import Cron as Cron
from fleet.cron_rows import CronPoint as CronPoint
from fleet.cron_rows import CronRun as CronRun
from fleet.data_rows import BlobHolder as BlobHolder
from fleet.data_rows import NodeData as NodeData
from fleet.data_rows import StoredDataSet as StoredDataSet
from fleet.finding_rows import FindingRow as FindingRow
from fleet.gpu_rows import GpuLadder as GpuLadder
from fleet.gpu_rows import NodeCordon as NodeCordon
from fleet.lifecycle import ATTEMPT, JOB, NODE, SEARCH
from fleet.place_rows import Place as Place
from fleet.place_rows import Rack as Rack
from fleet.scheduling_rows import Dependency as Dependency
from fleet.scheduling_rows import JobArray as JobArray
from fleet.scheduling_rows import LeaseGpu as LeaseGpu
from fleet.scheduling_rows import NodeLabels as NodeLabels
from fleet.scheduling_rows import NodeWindow as NodeWindow
from fleet.scheduling_rows import Quota as Quota
from fleet.scheduling_rows import RunTime as RunTime
from fleet.scheduling_rows import UsageDay as UsageDay
from fleet.scheduling_rows import Use as Use
from fleet.schema import Table as Table
from fleet.schema import one_of, partial_index
from fleet.secret_rows import StoredSecret as StoredSecret
from fleet.standing_rows import NodeKey as NodeKey
from fleet.standing_rows import Nonce as Nonce
from fleet.standing_rows import Standing as Standing
from fleet.telemetry_rows import ExpositionRow as ExpositionRow
from fleet.telemetry_rows import PointRow as PointRow
from fleet.update_rows import NodeUpdate as NodeUpdate
from fleet.update_rows import Rollout as Rollout
from fleet.webhook_rows import Delivery as Delivery
from fleet.webhook_rows import Webhook as Webhook


class Tenant(Table):
    """Who owns; one row named default until there are more."""

    __tablename__ = "tenants"
    name: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[float]


class Token(Table):
    """A bearer token: only its sha256 is stored. A join token is spent by setting `used_at`."""

    __tablename__ = "tokens"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    kind: Mapped[str]
    name: Mapped[str]
    role: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    node_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    created_at: Mapped[float]
    created_by: Mapped[str]
    expires_at: Mapped[float | None]
    scopes: Mapped[list[Any] | None]  # the only permissions of its role that it gives; NULL: all
    pool: Mapped[str | None]  # of a join token: the pool that its node is in
    site: Mapped[str | None]  # of a join token: where its node stands, with its rack; or neither
    rack: Mapped[str | None]
    used_at: Mapped[float | None]
    last_used_at: Mapped[float | None]  # of a bearer token; written at most once a minute
    revoked_at: Mapped[float | None]
    __table_args__ = (
        one_of("kind", ["user", "service", "node", "join"]),
        one_of("role", ["admin", "operator", "user", "viewer", "node", "join"]),
        CheckConstraint("(kind = 'node') = (node_id IS NOT NULL)", name="node_token_has_node"),
    )


class Node(Table):
    """One server under management: lifecycle, cordoned and contact (from `last_seen`) are separate axes.

    `contact` is what the last event about it said; what holds now follows from `last_seen`.
    """

    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    cordoned: Mapped[bool] = mapped_column(default=False)
    drain_by: Mapped[float | None]  # while it drains: what runs then makes way
    enrolled_at: Mapped[float]
    last_seen: Mapped[float | None]
    contact: Mapped[str] = mapped_column(default="online")
    boot_id: Mapped[str | None]
    sequence: Mapped[int] = mapped_column(default=0)
    past_boots: Mapped[list[Any]] = mapped_column(default=list)  # their reports are stale for ever
    desired_generation: Mapped[int] = mapped_column(default=1)
    applied_generation: Mapped[int] = mapped_column(default=0)
    settled: Mapped[list[Any]] = mapped_column(default=list)  # exited attempts that the agent may forget
    hostname: Mapped[str]
    agent_version: Mapped[str]
    protocol: Mapped[int] = mapped_column(default=2)  # the version that its agent speaks
    updatable: Mapped[bool] = mapped_column(default=False)  # its agent's version can be changed from here
    os: Mapped[str]
    cores: Mapped[int]
    memory_bytes: Mapped[int]
    walls: Mapped[list[Any] | None]  # as the agent reported them; None from one that knew of none
    features: Mapped[list[Any] | None]  # what its agent offers to commands beside what all do
    __table_args__ = (
        one_of("state", NODE.states),
        partial_index("uq_nodes_live_name", "name", where="state != 'retired'", unique=True),
    )


class Device(Table):
    """One device of a node, as last reported; `present` is false when the last inventory lacked it."""

    __tablename__ = "devices"
    id: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"))
    name: Mapped[str]
    kind: Mapped[str]
    model: Mapped[str]
    arch: Mapped[str]
    target_id: Mapped[str | None] = mapped_column(index=True)
    target: Mapped[dict[str, Any]]
    slots: Mapped[int]
    memory_bytes: Mapped[int]
    problem: Mapped[str]
    present: Mapped[bool] = mapped_column(default=True)
    vendor: Mapped[str] = mapped_column(default="")
    driver: Mapped[str] = mapped_column(default="")  # the driver mode that it was found in
    __table_args__ = (one_of("kind", ["cpu", "gpu"]), UniqueConstraint("node_id", "name"))


class Job(Table):
    """What was asked. Jobs with a `search_id` are made by a search and hidden from the default page.

    `requirement` is the text of what a node must offer: jobs of one requirement wait for the same thing. `requires`
    is what was asked for beyond the columns here. `settling`: what becomes of it when its last rank has stopped.
    """

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    kind: Mapped[str]
    name: Mapped[str | None]
    spec: Mapped[dict[str, Any]]
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    reason: Mapped[str] = mapped_column(default="")
    priority: Mapped[int]
    requirement: Mapped[str]
    arch: Mapped[str | None]
    target_id: Mapped[str | None]
    node_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    threads: Mapped[int]
    timeout_s: Mapped[float]
    max_retries: Mapped[int]
    retries: Mapped[int] = mapped_column(default=0)
    search_id: Mapped[int | None] = mapped_column(ForeignKey("searches.id"))
    round: Mapped[int | None]
    created_by: Mapped[str]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    outcome: Mapped[str | None]
    result: Mapped[dict[str, Any] | None]
    artifacts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str] = mapped_column(default="")
    requires: Mapped[dict[str, Any]] = mapped_column(default=dict)
    ranks: Mapped[int] = mapped_column(default=1)
    preemptible: Mapped[bool] = mapped_column(default=False)
    preempted: Mapped[int] = mapped_column(default=0)
    queue_timeout_s: Mapped[float | None]
    not_before: Mapped[float] = mapped_column(default=0.0)
    retry_on: Mapped[list[Any] | None]  # the outcomes after which it is tried again; NULL: infrastructure's
    settling: Mapped[dict[str, Any] | None]
    array_id: Mapped[int | None] = mapped_column(ForeignKey("job_arrays.id"))
    array_index: Mapped[int | None]
    clone_of: Mapped[int | None]
    expected_at: Mapped[float | None]  # the start that it was first told
    planned: Mapped[list[Any] | None]  # the nodes that are kept for it, while it waits
    __table_args__ = (
        one_of("kind", JobKind),
        one_of("state", JOB.states),
        one_of("outcome", Outcome),
        partial_index("ix_jobs_queued", "tenant", "priority", "requirement", "id", where="state = 'queued'"),
        partial_index("ix_jobs_array", "array_id", "state", where="array_id IS NOT NULL"),
        partial_index("ix_jobs_search", "search_id", "round", "kind", where="search_id IS NOT NULL"),
        Index("ix_jobs_state", "state", "id"),
    )


class Attempt(Table):
    """One try at a job on one device.

    `since_generation`: the desired set of its node from which on what is wanted of it holds: that it runs, or,
    once its job is being cancelled, that it does not.
    """

    __tablename__ = "attempts"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    number: Mapped[int]  # the ranks of one try have the same
    rank: Mapped[int] = mapped_column(default=0)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"))
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"))
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    since_generation: Mapped[int]
    spec: Mapped[dict[str, Any]]  # the job's, with the kernel's document and the tuned schedule filled in
    blobs: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    elapsed_s: Mapped[float] = mapped_column(default=0.0)
    outcome: Mapped[str | None]
    progress: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    artifacts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str] = mapped_column(default="")
    joules: Mapped[float | None]  # what its GPUs drew; None where they do not say
    energy_method: Mapped[str | None]
    throttled_s: Mapped[float | None]
    log_bytes: Mapped[int] = mapped_column(default=0)
    __table_args__ = (
        one_of("state", ATTEMPT.states),
        one_of("outcome", Outcome),
        CheckConstraint("(state = 'ended') = (outcome IS NOT NULL)", name="outcome_when_ended"),
        UniqueConstraint("job_id", "number", "rank"),
        partial_index("uq_attempts_live", "job_id", "rank", where="state != 'ended'", unique=True),
        partial_index("ix_attempts_live_node", "node_id", where="state != 'ended'"),
    )


class Lease(Table):
    """A time-limited hold on a device; its id is the fence: it only grows and is never reused.

    A lease is renewed by its node's sync, so that its end is derived from the node's `last_seen`.
    """

    __tablename__ = "leases"
    id: Mapped[int] = mapped_column(primary_key=True)
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), unique=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"))
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"))
    exclusive: Mapped[bool]
    slots: Mapped[int] = mapped_column(default=1)  # of the cpu's
    granted_at: Mapped[float]
    released_at: Mapped[float | None]
    __table_args__ = (
        partial_index(
            "uq_leases_exclusive", "device_id", where="exclusive AND released_at IS NULL", unique=True
        ),
        partial_index("ix_leases_held", "node_id", where="released_at IS NULL"),
        {"sqlite_autoincrement": True},
    )


class Event(Table):
    """Append-only: that something happened. Ids are never reused: readers keep a cursor.

    `xid`: on PostgreSQL the transaction that wrote it, filled in by the database (see fleet/events.py)."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    xid: Mapped[int | None] = mapped_column(server_default=FetchedValue())
    at: Mapped[float]
    kind: Mapped[str]
    subject: Mapped[str] = mapped_column(index=True)
    data: Mapped[dict[str, Any]]
    __table_args__ = ({"sqlite_autoincrement": True},)


class IdempotencyKey(Table):
    """Which row a POST with this key made, and of what body."""

    __tablename__ = "idempotency_keys"
    principal: Mapped[str] = mapped_column(primary_key=True)
    noun: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_hash: Mapped[str]
    row_id: Mapped[int]
    created_at: Mapped[float]


class Blob(Table):
    """A content-addressed file; `address` is the hex SHA3-256 of its bytes. `touched_at`: when it was uploaded again,
    asked for or named by a request last; NULL: never since `created_at`."""

    __tablename__ = "blobs"
    address: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int]
    created_at: Mapped[float]
    touched_at: Mapped[float | None]


class LogChunk(Table):
    """A piece of an attempt's log, of one stream: at its offset in bytes in the whole of it, and in its stream; the
    sequence numbers of an attempt's chunks count from 0."""

    __tablename__ = "log_chunks"
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes]
    sequence: Mapped[int]
    stream: Mapped[str]
    stream_offset: Mapped[int]
    __table_args__ = (
        one_of("stream", ["stdout", "stderr", "system"]),
        UniqueConstraint("attempt_id", "sequence"),
    )


class Kernel(Table):
    """A kernel definition seen by the fleet; `document` is its serialized form."""

    __tablename__ = "kernels"
    hash: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]]
    created_at: Mapped[float]


class KernelAlias(Table):
    """A reference (a named program, an inline document) that was found to mean a kernel."""

    __tablename__ = "kernel_aliases"
    ref_key: Mapped[str] = mapped_column(primary_key=True)
    kernel_hash: Mapped[str] = mapped_column(index=True)


class TunedKernel(Table):
    """The best candidate for a cache key (kernel, target, threads): one that a second node has confirmed, and beside
    it one for each tenant whose search has found a better one that nobody has confirmed.

    `node_id` timed it last, `found_by` measured it first; nobody but `tenant` is served it before `confirmed_at`.
    """

    __tablename__ = "tuned_kernels"
    id: Mapped[int] = mapped_column(primary_key=True)
    kernel_hash: Mapped[str]
    target_id: Mapped[str]
    threads: Mapped[int]
    kernel: Mapped[dict[str, Any]]  # the reference that the search was asked with
    arch: Mapped[str]
    schedule: Mapped[list[Any]]
    schedule_hash: Mapped[str]
    time_s: Mapped[float]
    flops: Mapped[float]
    bytes: Mapped[float]
    max_error: Mapped[float | None]
    tolerance: Mapped[float | None]
    source_blob: Mapped[str | None]
    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id"))
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"))
    created_at: Mapped[float]
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    found_by: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    confirmed_at: Mapped[float | None]
    confirmed_by: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    confirm_job_id: Mapped[int | None]
    confirm_tries: Mapped[int] = mapped_column(default=0)
    __table_args__ = (
        partial_index(
            "uq_tuned_kernels_confirmed",
            "kernel_hash",
            "target_id",
            "threads",
            where="confirmed_at IS NOT NULL",
            unique=True,
        ),
        partial_index(
            "uq_tuned_kernels_claimed",
            "kernel_hash",
            "target_id",
            "threads",
            "tenant",
            where="confirmed_at IS NULL",
            unique=True,
        ),
    )


class Quarantine(Table):
    """A candidate set aside because it crashed, hung, lied or wrote where it must not."""

    __tablename__ = "quarantine"
    id: Mapped[int] = mapped_column(primary_key=True)
    kernel_hash: Mapped[str]
    target_id: Mapped[str]
    threads: Mapped[int]
    schedule: Mapped[list[Any]]
    schedule_hash: Mapped[str]
    outcome: Mapped[str]
    detail: Mapped[str]
    source_blob: Mapped[str | None]
    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id"))
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"))
    created_at: Mapped[float]
    __table_args__ = (
        one_of("outcome", CandidateOutcome),
        UniqueConstraint("kernel_hash", "target_id", "threads", "schedule_hash"),
    )


class Search(Table):
    """A BEAM search. `join_key` is what was asked for: no two in flight were asked the same."""

    __tablename__ = "searches"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    kernel: Mapped[dict[str, Any]]
    ref_key: Mapped[str]
    kernel_hash: Mapped[str | None]
    join_key: Mapped[str]
    arch: Mapped[str | None]
    target_id: Mapped[str | None]
    threads: Mapped[int]
    width: Mapped[int]
    budget_s: Mapped[float]
    per_round: Mapped[int]
    max_rounds: Mapped[int]
    seed: Mapped[int]
    refresh: Mapped[bool] = mapped_column(default=False)  # search although a tuned kernel is known
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    phase: Mapped[str] = mapped_column(default="expand")  # what the current round waits for
    round: Mapped[int] = mapped_column(default=0)
    reason: Mapped[str] = mapped_column(default="")
    source: Mapped[str] = mapped_column(default="search")  # or cache: answered by an earlier search
    created_by: Mapped[str]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    flops: Mapped[float | None]
    bytes: Mapped[float | None]
    best_s: Mapped[float | None]
    best_hash: Mapped[str | None]
    confirmed: Mapped[list[Any]] = mapped_column(default=list)
    tuned_kernel_id: Mapped[int | None]
    error: Mapped[str] = mapped_column(default="")
    __table_args__ = (
        one_of("state", SEARCH.states),
        one_of("phase", ["expand", "measure", "confirm"]),
        one_of("source", ["search", "cache"]),
        partial_index(
            "uq_searches_in_flight", "join_key", where="state IN ('queued', 'running')", unique=True
        ),
    )


class Round(Table):
    """One step of the beam: counts, the best, the hashes that are decided, and where the artifacts are.

    `candidates`: what was proposed; `results`: what became of each; `top`: the best correct ones, with
    schedules; `hashes`: candidates with an outcome, never to be measured again.
    """

    __tablename__ = "rounds"
    id: Mapped[int] = mapped_column(primary_key=True)
    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id"))
    number: Mapped[int]
    started_at: Mapped[float]
    finished_at: Mapped[float | None]
    generated: Mapped[int] = mapped_column(default=0)
    illegal: Mapped[int] = mapped_column(default=0)
    duplicate: Mapped[int] = mapped_column(default=0)
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)  # outcome → how many
    best_s: Mapped[float | None]
    candidates: Mapped[list[Any]] = mapped_column(default=list)
    results: Mapped[list[Any]] = mapped_column(default=list)
    top: Mapped[list[Any]] = mapped_column(default=list)
    hashes: Mapped[list[Any]] = mapped_column(default=list)
    artifacts: Mapped[list[Any]] = mapped_column(default=list)
    __table_args__ = (UniqueConstraint("search_id", "number"),)
