"""The wire: what an agent observes, what it is told to do, and the specs of jobs. Shared by both sides.

Every model refuses unknown fields, and numbers written as something else: true, "32", 32.0 where an int is due. An
int is welcome where a float is due. A change here is a change of protocol: the server must keep speaking to agents two
versions back.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    model_serializer,
    model_validator,
)

from fleet.agents.access_spec import AccessReport, AccessSpec
from fleet.agents.command_spec import ArtifactName
from fleet.agents.command_spec import CommandSpec as CommandSpec
from fleet.agents.command_spec import HandedSecrets as HandedSecrets
from fleet.agents.command_spec import InputFile as InputFile
from fleet.agents.command_spec import Inside as Inside
from fleet.agents.command_spec import LogAck as LogAck
from fleet.agents.data_spec import PART_BYTES as PART_BYTES
from fleet.agents.data_spec import CachedData as CachedData
from fleet.agents.data_spec import DataFile as DataFile
from fleet.agents.data_spec import DataList as DataList
from fleet.agents.gang_spec import ArrayIndex as ArrayIndex
from fleet.agents.gang_spec import Gang as Gang
from fleet.agents.gang_spec import Peer as Peer
from fleet.agents.gpu_spec import BurninResult as BurninResult
from fleet.agents.gpu_spec import BurninSpec as BurninSpec
from fleet.agents.gpu_spec import Energy as Energy
from fleet.agents.gpu_spec import ResetReport as ResetReport
from fleet.agents.gpu_spec import ResetSpec as ResetSpec
from fleet.agents.update_spec import UpdateReport as UpdateReport
from fleet.agents.update_spec import UpdateSpec as UpdateSpec
from fleet.agents.wire import LARGEST_INT as LARGEST_INT
from fleet.agents.wire import Count as Count
from fleet.agents.wire import Hash as Hash
from fleet.agents.wire import Name as Name
from fleet.agents.wire import Positive as Positive
from fleet.agents.wire import Wire as Wire
from fleet.agents.wire import blob_address as blob_address
from fleet.agents.wire import canonical_hash as canonical_hash

# 4: resets and burn-ins of GPUs, data sets, secrets and containers for commands. 3: updates, and what came with them.
# fleet/dialects.py has what the versions before know of.
PROTOCOL_VERSION = 4
PublicKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
SignatureHex = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
# A schedule is opaque to everything but the engine; only its size is checked here.
ScheduleJson = Annotated[list[list[Any]], Field(max_length=64)]

MAX_ELEMENTS = 1 << 28
MAX_KERNEL_JSON = 256 * 1024


# ---------------------------------------------------------------------------------------------- kernels


class Program(StrEnum):
    """The named programs: kernels anyone can ask for without the engine."""

    GEMM = "gemm"  # shape [M, N, K]: (M, K) @ (K, N)
    REDUCE = "reduce"  # shape [rows, columns]: sum over columns
    COPY = "copy"  # any shape: out = a
    ELEMENTWISE = "elementwise"  # any shape: out = max(a * b + a, 0)


class KernelRef(Wire):
    """Which kernel: a named program with shape and dtype, or a serialized kernel inline, or one by its hash.

    Exactly one of `program`, `json` (the attribute `document`) and `hash` is given.
    """

    program: Program | None = None
    shape: list[Annotated[StrictInt, Field(ge=1, le=1 << 20)]] | None = Field(default=None, max_length=4)
    dtype: Literal["float32", "int32"] | None = None
    document: dict[str, Any] | None = Field(default=None, alias="json", min_length=1)
    hash: Hash | None = None

    @model_validator(mode="after")
    def _one_form(self) -> KernelRef:
        if sum(form is not None for form in (self.program, self.document, self.hash)) != 1:
            raise ValueError("give exactly one of program, json and hash")
        if self.program is not None:
            self._check_program()
        elif self.shape is not None or self.dtype is not None:
            raise ValueError("shape and dtype belong to a named program; a serialized kernel carries its own")
        return self

    def _check_program(self) -> None:
        axes = {Program.GEMM: 3, Program.REDUCE: 2}.get(self.program) if self.program else None
        if self.shape is None or not self.shape:
            raise ValueError(f"program {self.program} needs a shape")
        if axes is not None and len(self.shape) != axes:
            raise ValueError(f"program {self.program} needs a shape of {axes} sizes, got {len(self.shape)}")
        if max(self._buffers()) > MAX_ELEMENTS:
            raise ValueError(f"shape {self.shape} is larger than {MAX_ELEMENTS} elements in one buffer")
        self.dtype = self.dtype or "float32"

    def _buffers(self) -> list[int]:
        sizes = self.shape or [1]
        if self.program is Program.GEMM:
            m, n, k = sizes
            return [m * k, k * n, m * n]
        total = 1
        for size in sizes:
            total *= size
        return [total]

    def key(self) -> str:
        """A hash that is the same for the same reference; equal kernels may have several."""
        return canonical_hash(self.model_dump(mode="json", exclude_none=True, by_alias=True))


# ------------------------------------------------------------------------------------------------- jobs


class JobKind(StrEnum):
    """What an attempt does; one file each under fleet/agents/tasks."""

    NOOP = "noop"
    KERNEL = "kernel"
    EXPAND = "expand"  # made by searches only
    MEASURE = "measure"  # made by searches only
    CONFIRM = "confirm"  # made by searches only: the finalists at full shape, re-timed interleaved
    COMMAND = "command"  # a program or a script of its owner's
    BURNIN = "burnin"  # made by the control plane only: questions whose answers are known, put to a device


class NoopSpec(Wire):
    """Do nothing for `seconds`, printing a line; fail if told to. For trying and measuring the dispatch."""

    kind: Literal["noop"] = "noop"
    seconds: StrictFloat = Field(default=0.0, ge=0, le=3600)
    fail: StrictBool = False


class KernelSpec(Wire):
    """Run one kernel on random inputs, check it against the interpreter, and time it.

    `schedule`: "none" (the definition as written), "heuristic" (the engine's pick), "tuned" (the fleet's best
    known for the node it lands on, else the heuristic) or a schedule. `compare` adds rows measured interleaved.
    """

    kind: Literal["kernel"] = "kernel"
    kernel: KernelRef
    schedule: Literal["none", "heuristic", "tuned"] | ScheduleJson = "heuristic"
    compare: list[Literal["none", "heuristic", "tuned", "numpy"]] = Field(default_factory=list, max_length=4)
    threads: StrictInt = Field(default=1, ge=1, le=1024)
    seed: Count = 0
    time_s: StrictFloat = Field(default=1.0, gt=0, le=60, description="seconds of timing for each row")
    # Filled in by the control plane for "tuned" when the job is placed; None from users.
    tuned: ScheduleJson | None = None


class ExpandSpec(Wire):
    """Make the next round's candidates from the surviving schedules (none: the seeds)."""

    kind: Literal["expand"] = "expand"
    kernel: KernelRef
    survivors: list[ScheduleJson] = Field(default_factory=list, max_length=64)
    seen: list[Hash] = Field(default_factory=list, description="schedule hashes not to propose again")
    limit: StrictInt = Field(ge=1, le=512, description="how many candidates, best model score first")
    threads: StrictInt = Field(default=1, ge=1, le=1024)
    seed: Count = 0


class CandidateRef(Wire):
    """One schedule to try, by value; `hash` is the schedule's."""

    hash: Hash
    schedule: ScheduleJson
    score: StrictFloat = 0.0


class MeasureSpec(Wire):
    """Compile all candidates, verify each, then time the good ones alone. `bound_s`: the best time so far."""

    kind: Literal["measure"] = "measure"
    kernel: KernelRef
    candidates: list[CandidateRef] = Field(min_length=1, max_length=512)
    bound_s: StrictFloat | None = Field(default=None, gt=0)
    budget_s: StrictFloat = Field(gt=0, description="stop starting new candidates after this many seconds")
    threads: StrictInt = Field(default=1, ge=1, le=1024)
    seed: Count = 0


class ConfirmSpec(Wire):
    """Check the finalists at full shape with another seed and time them interleaved; best first."""

    kind: Literal["confirm"] = "confirm"
    kernel: KernelRef
    candidates: list[CandidateRef] = Field(min_length=1, max_length=8)
    threads: StrictInt = Field(default=1, ge=1, le=1024)
    seed: Count = 0


PublicSpec = Annotated[NoopSpec | KernelSpec | CommandSpec, Field(discriminator="kind")]
AnySpec = Annotated[
    NoopSpec | KernelSpec | ExpandSpec | MeasureSpec | ConfirmSpec | CommandSpec | BurninSpec,
    Field(discriminator="kind"),
]


# -------------------------------------------------------------------------------------- results of tasks


class CandidateOutcome(StrEnum):
    """What became of a candidate. All but OK, SLOW, ILLEGAL, COMPILE_FAILED and SKIPPED are quarantined."""

    OK = "ok"
    SLOW = "slow"  # correct, stopped early: slower than 3x the bound
    ILLEGAL = "illegal"  # the schedule cannot be replayed on this kernel
    COMPILE_FAILED = "compile_failed"
    WRONG = "wrong"  # output differs from the interpreter
    OUT_OF_BOUNDS = "out_of_bounds"  # wrote outside its output
    CRASHED = "crashed"
    HUNG = "hung"
    SKIPPED = "skipped"  # the budget ended first; may be tried again


QUARANTINED = frozenset(
    {CandidateOutcome.WRONG, CandidateOutcome.OUT_OF_BOUNDS, CandidateOutcome.CRASHED, CandidateOutcome.HUNG}
)


class CandidateResult(Wire):
    """One candidate's outcome. The source is in the artifact `candidates.json`, under `source_hash`."""

    hash: Hash
    schedule: ScheduleJson
    outcome: CandidateOutcome
    time_s: StrictFloat | None = None
    times_s: list[StrictFloat] = Field(default_factory=list, max_length=64)
    source_hash: Hash | None = None
    max_error: StrictFloat | None = None
    tolerance: StrictFloat | None = None
    detail: str = Field(default="", max_length=2000)


class ExpandResult(Wire):
    """Candidates in order of model score, and what the kernel turned out to be."""

    kernel_hash: Hash
    flops: StrictFloat
    bytes: StrictFloat
    candidates: list[CandidateRef]
    generated: Count
    illegal: Count
    duplicate: Count


class MeasureResult(Wire):
    """Every candidate of the batch with its outcome."""

    kernel_hash: Hash
    target_id: Hash
    results: list[CandidateResult]


# ------------------------------------------------------------------------------------------------- sync


class Outcome(StrEnum):
    """How an attempt ended. Only infrastructure outcomes are retried by default."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the job's own fault
    INVALID = "invalid"  # InvalidSpec, found by the engine: never retried
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    INFRA_FAILED = "infra_failed"  # the agent could not run it
    NODE_LOST = "node_lost"  # recorded by the control plane
    DEVICE_WEDGED = "device_wedged"


RETRIED = frozenset({Outcome.INFRA_FAILED, Outcome.NODE_LOST, Outcome.DEVICE_WEDGED})


class DeviceReport(Wire):
    """One device of a node. `target` is the engine's description of what code for it depends on."""

    name: Name  # "cpu" or "gpu0", …
    kind: Literal["cpu", "gpu"]
    model: str = Field(max_length=200)
    arch: str = Field(max_length=400)
    target_id: Hash | None = None  # canonical_hash(target); None when nothing can be compiled here
    target: dict[str, Any] = Field(default_factory=dict)
    slots: StrictInt = Field(default=1, ge=1, le=4096)
    memory_bytes: Count = 0
    problem: str = Field(
        default="", max_length=2000, description="why the device cannot be used, and the fix"
    )
    vendor: str = Field(default="", max_length=63, description="of a GPU: nvidia, amd, …")
    driver: str = Field(default="", max_length=63, description="of a GPU: the driver mode it is in")


def _once(keys: Iterable[Hashable], noun: str) -> None:
    """ValueError naming the first of the keys that is there twice."""
    seen: set[Hashable] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"{noun} {key} is listed more than once")
        seen.add(key)


class WallReport(Wire):
    """One wall round attempts as it stands on a node. A node that lacks one is trusted with less."""

    name: Name
    state: Literal["up", "partial", "missing", "off"]  # off: an operator said so
    detail: str = Field(default="", max_length=400)


def _named_once(devices: list[DeviceReport]) -> list[DeviceReport]:
    _once((device.name for device in devices), "device")
    return devices


class Inventory(Wire):
    """What a node was observed to have."""

    hostname: str = Field(max_length=253)
    agent_version: str = Field(max_length=64)
    protocol: Count = PROTOCOL_VERSION
    cores: Positive
    memory_bytes: Count
    os: str = Field(default="", max_length=200)
    devices: Annotated[list[DeviceReport], Field(min_length=1, max_length=64), AfterValidator(_named_once)]
    walls: list[WallReport] = Field(
        default_factory=list, max_length=32
    )  # empty: an agent that has none to report
    features: list[Name] = Field(
        default_factory=list, max_length=32, description="what commands may ask for, as network"
    )
    updatable: StrictBool = Field(
        default=False, description="root's part keeps slots for versions here: see Desired.update"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_a_version_that_is_known(cls, given: Any) -> Any:
        """Said first: what a newer agent says beside it is unknown here for that very reason."""
        said = given.get("protocol") if isinstance(given, dict) else None
        if isinstance(said, int) and PROTOCOL_VERSION < said <= LARGEST_INT:
            raise ValueError(
                f"protocol version {said} is not spoken yet: this control plane speaks up to {PROTOCOL_VERSION}; "
                "bring the control plane up to date before its agents"
            )
        return given


class AttemptReport(Wire):
    """One attempt as the agent sees it. Exited attempts are reported until the server lists them as settled."""

    attempt_id: Positive
    fence: Count
    state: Literal["starting", "running", "exited"]
    outcome: Outcome | None = None  # set exactly when exited
    elapsed_s: StrictFloat = Field(default=0.0, ge=0)
    progress: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: str = Field(default="", max_length=8000)
    artifacts: dict[ArtifactName, Hash] = Field(default_factory=dict, max_length=64)
    energy: Energy | None = None  # when exited, of a device whose energy is known

    @model_validator(mode="after")
    def _outcome_when_exited(self) -> AttemptReport:
        if (self.state == "exited") != (self.outcome is not None):
            raise ValueError("outcome is given exactly when state is exited")
        return self


def _reported_once(attempts: list[AttemptReport]) -> list[AttemptReport]:
    _once((f"{said.attempt_id} under fence {said.fence}" for said in attempts), "attempt")
    return attempts


class Observed(Wire):
    """Agent to server: the full state, numbered. An older (boot id, sequence) is refused."""

    boot_id: str = Field(min_length=1, max_length=64)  # new at each start of the agent
    sequence: Positive
    generation: Count = Field(default=0, description="the desired generation the agent has applied")
    inventory: Inventory | None = None  # with the first sync of a boot, and when it changed
    attempts: Annotated[list[AttemptReport], Field(max_length=1024), AfterValidator(_reported_once)] = Field(
        default_factory=list
    )
    access: AccessReport | None = (
        None  # with the first sync of a boot, and when it changed; None: nothing to say
    )
    update: UpdateReport | None = None
    data: list[CachedData] | None = Field(
        default=None, max_length=10_000, description="the data sets that are kept here, when that has changed"
    )
    resets: list[ResetReport] = Field(
        default_factory=list, max_length=64, description="how the resets that it was asked for went"
    )
    wait_s: StrictFloat = Field(
        default=0.0, ge=0, le=60, description="park until there is a newer generation"
    )


class AttemptSpec(Wire):
    """One attempt the agent should be running. What only newer agents know is left out unless it is used."""

    attempt_id: Positive
    job_id: Positive
    fence: Positive
    spec: AnySpec
    device: Name
    exclusive: StrictBool
    timeout_s: StrictFloat
    blobs: list[Hash] = Field(default_factory=list, description="inputs to fetch before the start")
    gpus: list[Name] = Field(default_factory=list, max_length=64, description="the GPUs that are its own")
    cpus: StrictInt = Field(
        default=1, ge=0, le=4096, description="its share of the cpu's slots; a guest's is 0"
    )
    gang: Gang | None = None
    array: ArrayIndex | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_as_ever(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = serialize(self)
        usual = {"gpus": [], "cpus": 1, "gang": None, "array": None}
        return {name: value for name, value in found.items() if name not in usual or value != usual[name]}


class Desired(Wire):
    """Server to agent: everything it should be running. What is not listed is to be stopped."""

    generation: Count
    attempts: list[AttemptSpec]
    access: AccessSpec | None = None  # None: of a node that has said nothing about logins
    settled: list[Positive] = Field(default_factory=list, description="exited attempts recorded: forget them")
    lease_s: StrictFloat = 60.0
    poll_s: StrictFloat = 30.0
    rotate_key: StrictBool = Field(
        default=False, description="bring a new key: this one is old, or called back"
    )
    update: UpdateSpec | None = None
    resets: list[ResetSpec] = Field(
        default_factory=list, max_length=64, description="GPUs that it shall reset; nothing holds them"
    )


class EnrollRequest(Wire):
    """A node asks to join, with its join token as the bearer and the key that it will sign with from then on.

    `public_key`: the 32 bytes of an ed25519 key; `proof`: its signature of `signature.enrolment_text`. Both hex.
    """

    name: Name
    inventory: Inventory
    public_key: PublicKey
    proof: SignatureHex


class EnrollResponse(Wire):
    """Who the node is from now on; `pool` is what its join token was bound to."""

    node_id: Positive
    name: Name
    pool: str = ""


class RotateRequest(Wire):
    """A node brings its next key; `proof`: that key's signature of `signature.rotation_text`. Signed with the old."""

    public_key: PublicKey
    proof: SignatureHex


class RotateResponse(Wire):
    """The id of the key that is accepted now."""

    key: Hash


class MetricsAck(Wire):
    """The exposition is kept; the next one is due in so many seconds."""

    interval_s: float = Field(ge=0.5, le=3600)
