"""What the API answers: one model per noun, shared by the routes (`api.routes`) and the SDK (`fleet.client`).

Times are RFC 3339 UTC strings; durations are float seconds. A client ignores fields that it does not know, so
that a newer server can add some.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    computed_field,
)

from fleet.agents.protocol import Hash, ScheduleJson

Row = TypeVar("Row")


def rfc3339(epoch_s: float) -> str:
    """Seconds since the epoch as an RFC 3339 UTC string with milliseconds: `2026-11-22T11:05:00.125Z`."""
    moment = datetime.fromtimestamp(round(epoch_s, 3), tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _timestamp(value: Any) -> Any:
    return rfc3339(value) if isinstance(value, int | float) else value


Timestamp = Annotated[
    str,
    BeforeValidator(_timestamp),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-22T11:05:00.125Z"]}),
]


class Resource(BaseModel):
    """A thing the API speaks of."""

    model_config = ConfigDict(extra="ignore", from_attributes=True)


class Page(Resource, Generic[Row]):
    """One page of a list; `next` is the cursor to give as `after` for the following page, null at the end."""

    items: list[Row]
    next: int | None = None


class Device(Resource):
    """One device of a node and who holds it now."""

    name: str
    kind: Literal["cpu", "gpu"]
    model: str
    arch: str
    target_id: Hash | None = None
    slots: int
    memory_bytes: int
    problem: str = Field(
        default="", description="why the device cannot be used, and the fix; empty when it can"
    )
    vendor: str = ""
    driver: str = Field(default="", description="of a GPU: the driver mode it is in")
    health: str = Field(
        default="ok", description="of a GPU: ok, suspect, resetting, retest or quarantined; work goes to ok"
    )
    health_reason: str = Field(default="", description="what it is blamed for, and what to do; empty when ok")
    leases: int = Field(default=0, description="active leases on the device")
    exclusive: bool = Field(default=False, description="one lease holds the whole device")


class Wall(Resource):
    """One wall round the attempts of a node."""

    name: str
    state: str = Field(description="up, partial, missing, or off by its operator's word")
    detail: str = ""


class Cordon(Resource):
    """Why a node takes nothing new although no operator said so."""

    kind: str = Field(description="flapping, gpus, clock or acceptance")
    reason: str
    since: Timestamp


class Node(Resource):
    """One server under management."""

    id: int
    name: str
    state: str = Field(description="enrolled, ready, draining, drained or retired")
    cordoned: bool = Field(description="accepts nothing new, by an operator's wish")
    cordons: list[Cordon] = Field(
        default_factory=list, description="why it accepts nothing new without anybody's wish"
    )
    contact: str = Field(description="online, late, unreachable or lost")
    pool: str = Field(default="", description="the pool that its join token was bound to")
    trust: str = Field(default="sealed", description="sealed, shared or tainted: how far its results count")
    trust_reason: str = ""
    contested: bool = Field(
        default=False,
        description="two live agents used its identity: both are refused until it is readmitted",
    )
    hostname: str
    agent_version: str
    os: str
    cores: int
    memory_bytes: int
    devices: list[Device]
    walls: list[Wall] = Field(
        default_factory=list, description="round attempts; a node that lacks some is trusted with less"
    )
    labels: dict[str, str] = Field(default_factory=dict, description="as an operator put them on")
    data_sets: dict[Hash, int] = Field(
        default_factory=dict, description="the data sets that it keeps, and their bytes"
    )
    rack: str = ""
    drain_by: Timestamp | None = Field(default=None, description="what runs there then makes way")
    enrolled_at: Timestamp
    last_seen_at: Timestamp | None = None


class Job(Resource):
    """What was asked, where it stands, and its last attempt's result."""

    id: int
    kind: str
    name: str | None = None
    state: str = Field(
        description="blocked, queued, leased, running, preempting, stopping, cancelling, succeeded, failed or cancelled"
    )
    spec: dict[str, Any]
    priority: int
    arch: str | None = None
    node: str | None = Field(default=None, description="the node it must run on, by name")
    ran_on: str | None = Field(default=None, description="the node of its last attempt, by name")
    timeout_s: float
    max_retries: int
    requirements: dict[str, Any] = Field(
        default_factory=dict, description="what it asks of each node, beyond what is usual"
    )
    ranks: int = Field(default=1, description="on how many nodes at once")
    preemptible: bool = False
    queue_timeout_s: float | None = None
    retry_on: list[str] | None = Field(default=None, description="null: infrastructure failures")
    array_id: int | None = None
    array_index: int | None = None
    clone_of: int | None = None
    search_id: int | None = None
    attempts: int = Field(default=0, description="how often it was tried")
    outcome: str | None = Field(default=None, description="how the last attempt ended")
    result: dict[str, Any] | None = None
    artifacts: dict[str, Hash] = Field(default_factory=dict, description="artifact name to blob address")
    error: str = ""
    reason: str = Field(default="", description="why it waits")
    joules: float | None = Field(default=None, description="of its attempts that ended, where they are known")
    throttled_s: float | None = None
    created_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None


class DataSet(Resource):
    """A folder of files that nodes keep for the commands that read it."""

    address: Hash
    files: int
    bytes: int
    created_by: str
    created_at: Timestamp


class DataSetPage(Resource):
    """Data sets; `next` is the address to go on after."""

    items: list[DataSet]
    next: str | None = None


class LogPiece(Resource):
    """A chunk of an attempt's log, of one stream."""

    attempt_id: int
    sequence: int = Field(description="which chunk of the attempt it is, from 0 on: the order of all streams")
    stream: Literal["stdout", "stderr", "system"] = Field(description="system: what the agent has to say")
    offset: int = Field(description="where in the stream the bytes begin")
    data: str = Field(description="the bytes, in base64")


class LogPieces(Resource):
    """Chunks in order. `attempt` and `after` are where to read on; `end`: the job is final, and there are no more."""

    items: list[LogPiece]
    attempt: int | None = None
    after: int = -1
    end: bool = False


class Attempt(Resource):
    """One try at a job on one node."""

    id: int
    job_id: int
    number: int = Field(description="1 for the first attempt of the job; a gang's ranks have the same")
    rank: int = 0
    node_id: int
    node: str = Field(description="the node's name")
    device: str = Field(description="the device's name on its node")
    gpus: list[str] = Field(default_factory=list, description="the GPUs that it has, by name")
    fence: int = Field(description="its lease's number: reports with another one change nothing")
    state: str = Field(description="leased, running or ended")
    outcome: str | None = None
    elapsed_s: float = 0.0
    progress: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: str = ""
    artifacts: dict[str, Hash] = Field(default_factory=dict, description="artifact name to blob address")
    log_bytes: int = 0
    joules: float | None = Field(default=None, description="what its GPUs drew; null where they do not say")
    energy_method: str | None = Field(default=None, description="counter (the devices' own) or integrated")
    throttled_s: float | None = Field(default=None, description="for which their clocks were held down")
    created_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None


class Search(Resource):
    """One BEAM search of one kernel."""

    id: int
    state: str = Field(description="queued, running, done, failed or cancelled")
    source: Literal["search", "cache"] = Field(description="cache: answered at once by a known tuned kernel")
    kernel: dict[str, Any] = Field(description="the reference as it was given")
    kernel_hash: Hash | None = None
    arch: str | None = None
    width: int
    budget_s: float
    threads: int
    per_round: int
    max_rounds: int
    seed: int
    refresh: bool = Field(default=False, description="searched although a tuned kernel was known")
    phase: str = Field(default="", description="what it does now: expand, measure or confirm")
    rounds: int = Field(default=0, description="rounds begun")
    measured: int = Field(default=0, description="candidates with an outcome")
    elapsed_s: float = Field(default=0.0, description="seconds since it began to run")
    flops: float | None = None
    bytes: float | None = None
    best_s: float | None = Field(default=None, description="the best verified time so far, seconds")
    best_schedule: ScheduleJson | None = None
    tuned_kernel_id: int | None = None
    reason: str = Field(default="", description="why it waits")
    error: str = ""
    created_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None


class Round(Resource):
    """One step of a search's beam."""

    number: int
    state: str = Field(description="expand, measure or confirm while it goes on; then done")
    generated: int = Field(description="schedules that were made; some illegal, some known already")
    illegal: int
    duplicate: int
    candidates: int = Field(description="schedules chosen to be measured")
    outcomes: dict[str, int] = Field(default_factory=dict, description="how many candidates ended how")
    best_s: float | None = Field(default=None, description="the best time in this round, seconds")
    started_at: Timestamp
    finished_at: Timestamp | None = None


class Candidate(Resource):
    """One schedule tried in a search."""

    hash: Hash
    round: int
    schedule: ScheduleJson
    score: float = Field(description="what the model expected, seconds")
    outcome: str | None = None
    time_s: float | None = None
    source_hash: Hash | None = None
    max_error: float | None = None
    tolerance: float | None = None
    detail: str = ""


class TunedKernel(Resource):
    """The best verified schedule of one kernel for one target and thread count."""

    id: int
    kernel_hash: Hash
    kernel: dict[str, Any] = Field(description="the reference that the search was asked with")
    target_id: Hash
    arch: str
    threads: int
    schedule: ScheduleJson
    schedule_hash: Hash
    time_s: float
    flops: float
    bytes: float
    max_error: float | None = None
    tolerance: float | None = None
    source_hash: Hash | None = Field(
        default=None,
        validation_alias=AliasChoices("source_hash", "source_blob"),
        description="its C source, by SHA3-256: also the address of the blob",
    )
    search_id: int
    node_id: int = Field(description="the node that timed it")
    created_at: Timestamp
    confirmed_at: Timestamp | None = Field(
        default=None,
        description="when a second sealed node found it right (in a fleet of one: a second run with another seed); "
        "before, nobody but its finder's tenant is served it",
    )
    confirmed_by: int | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gflops(self) -> float:
        """10⁹ operations a second."""
        return self.flops / self.time_s / 1e9

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gbps(self) -> float:
        """10⁹ bytes of inputs and output a second."""
        return self.bytes / self.time_s / 1e9


class Secret(Resource):
    """A secret without its value."""

    name: str
    version: int = Field(description="grows with each value")
    created_by: str
    created_at: Timestamp
    updated_at: Timestamp


class SecretPage(Resource):
    """Some of a tenant's secrets; `next` is a name."""

    items: list[Secret]
    next: str | None = None


class RemovedPerson(Resource):
    """What ended with a person, by count."""

    name: str
    tokens: int
    jobs: int
    searches: int
    crons: int = 0
    webhooks: int = 0
    keys: int = Field(default=0, description="SSH keys that were removed")
    grants: int = Field(default=0, description="logins that ended")
    arrays: int = Field(
        default=0, description="arrays of jobs that were cancelled, whose jobs are not counted again"
    )


class QuarantinedCandidate(Resource):
    """A candidate set aside because it crashed, hung or lied."""

    id: int
    kernel_hash: str
    target_id: str
    threads: int
    schedule: ScheduleJson
    schedule_hash: Hash
    outcome: str
    detail: str = ""
    source_blob: Hash | None = Field(default=None, description="where its source is kept")
    search_id: int
    node_id: int = Field(description="the node that found it so")
    created_at: Timestamp


class Purged(Resource):
    """What rested on a node's word, and was taken out, or would be."""

    dry_run: bool
    kernels: list[TunedKernel]
    quarantined: list[QuarantinedCandidate] = Field(
        default_factory=list, description="candidates that searches are kept from no longer"
    )


class Event(Resource):
    """Something that happened."""

    id: int
    at: Timestamp
    kind: str
    subject: str = Field(
        description="what it happened to: a noun (job, attempt, node, search, kernel, quarantine or token), a colon "
        "and its id",
        examples=["job:12"],
    )
    data: dict[str, Any] = Field(default_factory=dict)


class Token(Resource):
    """A bearer token without its secret."""

    id: int
    kind: Literal["user", "service", "node", "join"]
    name: str
    role: str
    tenant: str
    scopes: list[str] | None = Field(
        default=None, description="the only permissions of its role that it gives; null: all of them"
    )
    created_by: str
    created_at: Timestamp
    expires_at: Timestamp | None = None
    used_at: Timestamp | None = Field(default=None, description="when a join token was spent")
    last_used_at: Timestamp | None = Field(
        default=None,
        description="when a bearer token was used last, to the minute; of a node see last_seen_at",
    )
    revoked_at: Timestamp | None = None


class MintedToken(Token):
    """A new token; the secret is shown this once."""

    secret: str


class JoinToken(Resource):
    """A one-use secret with which one node enrolls."""

    secret: str
    expires_at: Timestamp


class WhoAmI(Resource):
    """Who the bearer token says is asking."""

    kind: Literal["user", "service", "node"]
    id: int
    name: str
    tenant: str
    role: str


class StoredBlob(Resource):
    """Where uploaded bytes can be fetched."""

    hash: Hash
    size: int
