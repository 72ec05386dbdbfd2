"""Start, watch and stop attempts. What it knows is on disk, so that the next agent knows it too."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fleet.agents.attempts import PROGRESS, RESULT, STOP, Assignment, Key, Limits, State
from fleet.agents.containers import IMAGE
from fleet.agents.datasets import DataSets
from fleet.agents.durable import read_json, write_json
from fleet.agents.plan import Local
from fleet.agents.processes import alive, clock, kernel_boot, kill, leftovers, send
from fleet.agents.protocol import AttemptReport, AttemptSpec, Energy, Outcome
from fleet.agents.sealed import seal
from fleet.agents.starter import Starter
from fleet.agents.walls.traces import end_all

# A task may write anything; what is larger than a task's own code would make it is not sent.
_LARGEST_DOCUMENT = 256 * 1024


@dataclass(frozen=True)
class Attempt:
    """One attempt as it stands on disk. `state` is None until a supervisor has claimed it."""

    key: Key
    directory: Path
    assignment: Assignment
    state: State | None
    stopping: bool

    @property
    def spec(self) -> AttemptSpec:
        """What the agent was told."""
        return self.assignment.attempt

    @property
    def phase(self) -> Literal["new", "starting", "running", "exited"]:
        """How far it has come."""
        return "new" if self.state is None else self.state.phase

    def local(self) -> Local:
        """As the plan sees it."""
        spec = self.spec
        return Local(spec.attempt_id, spec.fence, self.phase, spec.device, spec.exclusive, self.stopping)


class Runner:
    """The attempts of one state directory."""

    def __init__(
        self, state: Path, starter: Starter, limits: Limits, start_s: float, data: DataSets | None = None
    ) -> None:
        self.state = state
        self._directory = state / "attempts"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._data = data
        self._starter = starter
        self._limits = limits
        self._start_s = start_s
        self._ended: dict[str, Attempt] = {}  # by directory name; nothing about them changes any more
        self._asked: dict[Key, tuple[int, float]] = {}  # which zygote was asked, and when the first was
        self._sealed: dict[Key, int] = {}  # descriptors that hold the secrets of attempts that have not begun
        self._discard_unassigned()

    def _discard_unassigned(self) -> None:
        """Directories that an earlier agent had not finished writing or removing: nothing runs in them."""
        for directory in self._directory.iterdir():
            if directory.name.startswith(".") or Assignment.load(directory) is None:
                remove(directory)

    def observe(self) -> list[Attempt]:
        """All attempts here; one whose supervisor has died is ended and recorded as failed by the machine."""
        names = sorted(name for name in os.listdir(self._directory) if not name.startswith("."))
        return [attempt for attempt in map(self._look, names) if attempt is not None]

    def _look(self, name: str) -> Attempt | None:
        if name in self._ended:
            return self._ended[name]
        directory = self._directory / name
        assignment = Assignment.load(directory)
        if assignment is None:
            return None
        state = self._state(directory)
        key = Key(assignment.attempt.attempt_id, assignment.attempt.fence)
        attempt = Attempt(key, directory, assignment, state, (directory / STOP).exists())
        if attempt.phase != "new":
            self._let_go(key)
        if attempt.phase == "exited":
            self._ended[name] = attempt
        return attempt

    def _state(self, directory: Path) -> State | None:
        state = State.load(directory)
        if state is None or state.phase == "exited" or _supervised(state):
            return state
        # It may have finished between the two looks.
        state = State.load(directory) or state
        return state if state.phase == "exited" else self._bury(directory, state)

    def _bury(self, directory: Path, state: State) -> State:
        """Its supervisor is dead: kill what is left of the attempt and record that the machine failed it."""
        rebooted = state.boot != kernel_boot()
        if not rebooted:
            kill(leftovers(f"{self._directory}/", self._roots()), signal.SIGKILL)
            end_all(state.traces)
        ended = replace(
            state,
            phase="exited",
            outcome=Outcome.INFRA_FAILED,
            error="the node was restarted" if rebooted else "the attempt's supervisor died",
            elapsed_s=0.0 if rebooted else clock() - state.started,
        )
        ended.save(directory)
        return ended

    def _roots(self) -> set[int]:
        """Pids of the living processes under which attempts belong: the zygote and all supervisors."""
        states = [State.load(directory) for directory in self._directory.iterdir()]
        roots = {
            state.supervisor.pid for state in states if state and state.supervisor and _supervised(state)
        }
        if self._starter.pid is not None:
            roots.add(self._starter.pid)
        return roots

    def start(self, spec: AttemptSpec) -> None:
        """Have the attempt run, once its inputs are there. Called again it retries a request that was lost."""
        key = Key(spec.attempt_id, spec.fence)
        directory = self._directory / str(key)
        if Assignment.load(directory) is None:
            _lay_out(directory)
            Assignment(spec, self._limits).save(directory)
        if missing_inputs(directory, spec) or self.lacks_secrets(key, spec):
            return
        if self._has_data(directory, spec) and has_image(directory, spec):
            self._ask(key, directory)

    def _has_data(self, directory: Path, spec: AttemptSpec) -> bool:
        """Whether the data sets are here; then they are in the attempt's folder too, under the names that it gives them."""
        if not data_of(spec):
            return True
        if self._data is None or not all(self._data.has(address) for address in data_of(spec)):
            return False
        for name, address in getattr(spec.spec, "data", {}).items():
            self._data.use(address, time.time())
            place = directory / "work" / "data" / name
            place.parent.mkdir(mode=0o700, exist_ok=True)
            if not place.is_symlink():
                place.symlink_to(self._data.path(address))
        return True

    def lacks_secrets(self, key: Key, spec: AttemptSpec) -> bool:
        """Whether the attempt needs secrets that are not here: they are in no file, and gone with the agent."""
        return bool(getattr(spec.spec, "secrets", None)) and key not in self._sealed

    def entrust(self, key: Key, secrets: Mapping[str, str]) -> None:
        """Keep an attempt's secrets, in memory, until it has begun. From any thread."""
        self._sealed[key] = seal(secrets)

    def _let_go(self, key: Key) -> None:
        sealed = self._sealed.pop(key, -1)
        if sealed >= 0:
            os.close(sealed)

    def _ask(self, key: Key, directory: Path) -> None:
        generation, since = self._asked.setdefault(key, (0, clock()))
        if clock() - since > self._start_s:
            words = self._starter.last_words()
            self.give_up(
                directory, Outcome.INFRA_FAILED, f"did not start within {self._start_s:g} s\n{words}"
            )
        elif (
            self._starter.ensure()
            and generation != self._starter.generation
            and self._starter.ask(str(key), self._sealed.get(key, -1))
        ):
            self._asked[key] = (self._starter.generation, since)

    def stop(self, attempt: Attempt) -> None:
        """Have the attempt end: asked first, killed after its grace. One that never started ends at once."""
        if attempt.state is None and self.give_up(
            attempt.directory, Outcome.CANCELLED, "stopped before it started"
        ):
            return
        write_json(attempt.directory / STOP, {})
        state = State.load(attempt.directory)
        if state is not None and state.supervisor is not None:
            send(state.supervisor, signal.SIGUSR1)

    def give_up(self, directory: Path, outcome: Outcome, error: str) -> bool:
        """End an attempt that no supervisor has claimed, so that none can any more; False when one has."""
        return State("exited", outcome=outcome, error=error[:8000]).claim(directory)

    def forget(self, attempt: Attempt) -> None:
        """The server has recorded how it ended: remove it."""
        # Out of sight first, so that a crash half way leaves no attempt that looks new.
        gone = attempt.directory.with_name(f".{attempt.key}")
        attempt.directory.rename(gone)
        remove(gone)
        self._asked.pop(attempt.key, None)
        self._ended.pop(str(attempt.key), None)


def _lay_out(directory: Path) -> None:
    """An attempt of another user passes through the outermost; what is in there is for the agent's user alone."""
    for folder in ("", "work", "work/artifacts", "work/blobs", "work/tmp", "work/cache"):
        (directory / folder).mkdir(mode=0o700 if folder else 0o711, exist_ok=True)


def remove(directory: Path) -> None:
    """An attempt's folder with all it left, however deep and however shut."""
    try:
        shutil.rmtree(directory)
    except (OSError, RecursionError):
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(directory)], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", "--", str(directory)], check=False, stderr=subprocess.DEVNULL)


def data_of(spec: AttemptSpec) -> list[str]:
    """The data sets that the attempt reads, each once."""
    return list(dict.fromkeys(getattr(spec.spec, "data", {}).values()))


def has_image(directory: Path, spec: AttemptSpec) -> bool:
    """Whether the files of the attempt's container are here, if it has one: the stager lays the link last."""
    return image_of(spec) is None or (directory / IMAGE).is_symlink()


def image_of(spec: AttemptSpec) -> str | None:
    """The image of the container that the attempt runs in."""
    found: str | None = getattr(spec.spec, "container", None)
    return found


def missing_inputs(directory: Path, spec: AttemptSpec) -> list[str]:
    """Addresses of the blobs that the attempt needs and does not have yet."""
    return [address for address in spec.blobs if not (directory / "work" / "blobs" / address).exists()]


def _supervised(state: State) -> bool:
    return state.boot == kernel_boot() and state.supervisor is not None and alive(state.supervisor)


@dataclass(frozen=True)
class Shipped:
    """What the server has of an exited attempt: its artifacts by name, and what it did not take, in words."""

    artifacts: dict[str, str] = field(default_factory=dict)
    refused: str = ""


def report(attempt: Attempt, shipped: Shipped | None, energy: Energy | None = None) -> AttemptReport:
    """What the server is told. An exited attempt counts as running until what it made is `shipped`."""
    if attempt.state is None or attempt.state.phase != "exited" or shipped is None:
        return _report_living(attempt)
    return AttemptReport(
        attempt_id=attempt.key.attempt_id,
        fence=attempt.key.fence,
        state="exited",
        outcome=attempt.state.outcome,
        elapsed_s=attempt.state.elapsed_s,
        progress=_document(attempt.directory / PROGRESS),
        result=_result(attempt),
        error=_error(attempt.state, shipped),
        artifacts=shipped.artifacts,
        energy=energy,
    )


def _report_living(attempt: Attempt) -> AttemptReport:
    state = attempt.state
    return AttemptReport(
        attempt_id=attempt.key.attempt_id,
        fence=attempt.key.fence,
        state="running" if attempt.phase in ("running", "exited") else "starting",
        elapsed_s=_elapsed(state),
        progress=_document(attempt.directory / PROGRESS),
    )


def _elapsed(state: State | None) -> float:
    """Of an attempt that was given up before it began, nothing."""
    if state is None or state.phase == "exited" or not state.started:
        return 0.0 if state is None else state.elapsed_s
    return max(0.0, clock() - state.started)


def _result(attempt: Attempt) -> dict[str, Any] | None:
    """What the task returned, unless it was ended for another reason; a job that failed may have a result too."""
    outcome = attempt.state.outcome if attempt.state else None
    recorded = _document(attempt.directory / RESULT) or {}
    result = recorded.get("result")
    return result if isinstance(result, dict) and recorded.get("outcome") == outcome else None


def _error(state: State, shipped: Shipped) -> str:
    refused = f"artifacts the server did not take: {shipped.refused}" if shipped.refused else ""
    return "; ".join(part for part in (state.error, refused) if part)[:8000]


def _document(path: Path) -> dict[str, Any] | None:
    """A JSON object that a task wrote; None for whatever else it may have left there."""
    try:
        document = read_json(path) if path.stat().st_size <= _LARGEST_DOCUMENT else None
    except (ValueError, FileNotFoundError):
        return None
    return document if isinstance(document, dict) else None
