"""One attempt on disk: who wrote what, where. What the agent, the supervisor and the task know of each other.

attempts/7-3/          attempt 7 under fence 3
  assignment.json      the agent: the attempt's spec and its limits
  state.json           the supervisor: processes, phase, outcome; created by exactly one claimant
  stop.json            the agent: end it, please
  progress.json        the supervisor: what the task said last of how far it is
  result.json          the supervisor: what the task said of its end: outcome, and result or error
  log, log.runs        the supervisor: what the task printed, up to the limit, and by which stream (agents.logs)
  kept/                the supervisor: the artifacts that are within the limits
  work/                the task's working directory, with artifacts/ (out), blobs/ (in), tmp/ and cache/

The task writes in work/ and nowhere else; nothing of what it leaves there is read but the artifacts, once it is dead.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fleet.agents.durable import create_json, read_json, write_json
from fleet.agents.processes import Process, kernel_boot
from fleet.agents.protocol import AttemptSpec, Outcome
from fleet.agents.walls import room
from fleet.agents.walls.policy import Ceilings
from fleet.agents.walls.traces import Traces

Phase = Literal["starting", "running", "exited"]

ASSIGNMENT, STATE, STOP, PROGRESS, RESULT, LOG, KEPT = (
    "assignment.json",
    "state.json",
    "stop.json",
    "progress.json",
    "result.json",
    "log",
    "kept",
)


DATA = "data"  # beside the attempts: the node's data sets (agents.datasets)


@dataclass(frozen=True, order=True)
class Key:
    """Which attempt, under which fence. The same attempt under a newer fence is another one."""

    attempt_id: int
    fence: int

    def __str__(self) -> str:
        return f"{self.attempt_id}-{self.fence}"


@dataclass(frozen=True)
class Limits:
    """What an attempt may use and leave behind, and how long it may take to end when told to."""

    grace_s: float = 1.0  # a cancellation is to be over within 2 s, whatever the task does
    log_bytes: int = (4 << 20) - (64 << 10)  # the fleet keeps 4 MiB: the end of what is longer fits in
    artifact_bytes: int = 64 << 20
    artifact_count: int = 64
    memory_bytes: int = 0  # 0: nine tenths of the machine's
    processes: int = Ceilings.processes
    open_files: int = Ceilings.open_files
    file_bytes: int = Ceilings.file_bytes
    folder_bytes: int = 0  # 0: half of the disk's free space when it starts
    folder_files: int = room.FILES

    @property
    def ceilings(self) -> Ceilings:
        """As the walls take them."""
        return Ceilings(self.memory_bytes, self.processes, self.open_files, self.file_bytes)


@dataclass(frozen=True)
class Assignment:
    """What the agent was told, as the supervisor finds it."""

    attempt: AttemptSpec
    limits: Limits

    def save(self, directory: Path) -> None:
        """Write it; the attempt exists from here on."""
        document = {
            "attempt": self.attempt.model_dump(mode="json", by_alias=True),
            "limits": asdict(self.limits),
        }
        write_json(directory / ASSIGNMENT, document)

    @staticmethod
    def load(directory: Path) -> Assignment | None:
        """The assignment of an attempt's directory; None when the agent died before it was written."""
        document = read_json(directory / ASSIGNMENT)
        if document is None:
            return None
        return Assignment(AttemptSpec.model_validate(document["attempt"]), Limits(**document["limits"]))


@dataclass(frozen=True)
class State:
    """An attempt as its supervisor last recorded it. `started` is in seconds of `processes.clock`."""

    phase: Phase
    boot: str = field(default_factory=kernel_boot)
    supervisor: Process | None = None
    task: Process | None = None
    started: float = 0.0
    elapsed_s: float = 0.0
    outcome: Outcome | None = None
    error: str = ""
    artifacts: tuple[str, ...] = ()
    traces: Traces = field(default_factory=Traces)

    def claim(self, directory: Path) -> bool:
        """Be the first state of an attempt; False when there is one already.

        The disk has it for certain only with the next `save`: an attempt need not wait for that to start.
        """
        return create_json(directory / STATE, asdict(self), durable=self.phase == "exited")

    def save(self, directory: Path) -> None:
        """Replace the recorded state."""
        write_json(directory / STATE, asdict(self))

    @staticmethod
    def load(directory: Path) -> State | None:
        """The recorded state; None while nobody has claimed the attempt.

        One that a power cut has torn was claimed before it, by a supervisor that is no more.
        """
        try:
            document = read_json(directory / STATE)
        except ValueError:
            return State("starting", boot="")
        return None if document is None else _state(document)


@dataclass(frozen=True)
class Host:
    """The attempt in whose walls and folder another one runs: that one is its guest, and ends with it at the latest."""

    directory: Path
    assignment: Assignment

    @staticmethod
    def of(directory: Path, assignment: Assignment) -> Host | None:
        """The host of the attempt in `directory`; None for one that has a cell of its own. LookupError when its host does
        not run here."""
        inside = getattr(assignment.attempt.spec, "inside", None)
        if inside is None:
            return None
        place = directory.with_name(str(Key(inside.attempt_id, inside.fence)))
        found = Assignment.load(place)
        host = None if found is None else Host(place, found)
        if host is None or not host.runs():
            raise LookupError(
                f"attempt {inside.attempt_id}, in which it was to run, does not run here any more"
            )
        return host

    def runs(self) -> bool:
        """Whether it still does."""
        state = State.load(self.directory)
        return state is not None and state.phase == "running"

    def task(self) -> int:
        """The pid of its task; 0 when it has none."""
        state = State.load(self.directory)
        return state.task.pid if state is not None and state.task is not None else 0

    def traces(self) -> Traces:
        """Where it is."""
        state = State.load(self.directory)
        return Traces() if state is None else state.traces


def _state(document: dict[str, Any]) -> State:
    outcome = document.pop("outcome")
    return State(
        supervisor=_process(document.pop("supervisor")),
        task=_process(document.pop("task")),
        outcome=None if outcome is None else Outcome(outcome),
        artifacts=tuple(document.pop("artifacts")),
        traces=Traces(**document.pop("traces", {})),
        **document,
    )


def _process(document: dict[str, int] | None) -> Process | None:
    return None if document is None else Process(**document)
