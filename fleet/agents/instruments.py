"""The agent's end of its telemetry: keeps the process alive, tells it what runs, pushes what it says, asks it for joules."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from fleet.agents import telemetry_pid
from fleet.agents.client import ControlPlane, ControlPlaneError, Refused, Rejected
from fleet.agents.durable import read_json, write_json
from fleet.agents.processes import clock
from fleet.agents.protocol import Energy
from fleet.agents.runner import Attempt
from fleet.agents.starter import task_environment
from fleet.agents.telemetry_config import CONFIG

MARK = "energy.json"  # in an attempt's folder: what its device's counter said when it began
_AGAIN_S = 5.0
_REFUSED_S = 60.0
_END_S = 2.0
_OVERTAKEN = 409
_PATIENCE_S = 1.5  # how long an attempt's end waits for its joules
_TIMED = frozenset({"measure", "confirm"})
_log = logging.getLogger(__name__)


class Instruments(Protocol):
    """What the worker needs of telemetry."""

    def show(self, attempts: Sequence[Attempt]) -> None:
        """These are all attempts."""

    def settled(self, attempt: Attempt) -> bool:
        """Whether nothing more will be learnt of what an exited attempt used."""

    def energy(self, attempt: Attempt) -> Energy | None:
        """What it used, where that is known."""

    def aside(self) -> AbstractContextManager[None]:
        """While it is entered nobody measures, and no GPU is held open for that."""


class NoInstruments:
    """An agent that was told to measure nothing."""

    def show(self, attempts: Sequence[Attempt]) -> None:
        """Nothing is done with them."""

    def settled(self, attempt: Attempt) -> bool:
        """There is nothing to wait for."""
        return True

    def energy(self, attempt: Attempt) -> Energy | None:
        """Not known."""
        return None

    def aside(self) -> AbstractContextManager[None]:
        """Nobody measures."""
        return contextlib.nullcontext()


class Process:
    """The telemetry's process, and the push of what it says. `start` and `close` frame its use.

    `listen`: host:port for a /metrics beside the push, "" for none; `root`: where /sys and /proc are (tests); `config`:
    the file of what cannot be found.
    """

    def __init__(
        self,
        control: ControlPlane,
        state: Path,
        hint: Callable[[], None],
        listen: str = "",
        version: str = "",
        root: Path = Path("/"),
        config: Path = CONFIG,
    ) -> None:
        self._control = control
        self._hint = hint
        self._command = [sys.executable, "-m", "fleet.agents.telemetry", "--state", str(state)]
        self._command += ["--root", str(root), "--version", version, "--listen", listen]
        self._command += ["--config", str(config)]
        self._state = state
        self._log_path = state / "telemetry.log"
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._fresh = threading.Event()  # there is a text to push
        self._text = ""
        self._child: subprocess.Popen[bytes] | None = None
        self._kept = threading.Thread(target=self._keep, name="telemetry", daemon=True)
        self._said: dict[str, Any] = {}
        self._every_s = 10.0
        self._offline = False
        self._complaint = ""
        self._attempts: list[dict[str, Any]] = []
        self._paused = False
        self._devices: frozenset[str] = frozenset()
        self._energies: dict[str, Energy | None] = {}
        self._folders: dict[str, Path] = {}
        self._ended: dict[str, float] = {}
        self._allowed = threading.Event()  # to run
        self._allowed.set()
        self._gone = threading.Event()  # there is no process
        self._gone.set()

    def start(self) -> None:
        """Measure and push until closed."""
        threading.Thread(target=self._push_all, name="metrics push", daemon=True).start()
        self._kept.start()

    def close(self) -> None:
        """End the process; it notices that its input ends."""
        self._stop.set()
        self._fresh.set()
        with self._guard:
            child = self._child
        if child is not None and child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()
        self._kept.join(_END_S)
        if child is not None and self._kept.is_alive():
            child.kill()
            self._kept.join(_END_S)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """End the process, and start it anew afterwards: what it knew of a GPU's errors goes with it."""
        self._allowed.clear()
        try:
            with self._guard:
                child = self._child
            if child is not None:
                child.terminate()
                if not self._gone.wait(_END_S):
                    child.kill()
                    self._gone.wait(_END_S)
            yield
        finally:
            self._allowed.set()

    def show(self, attempts: Sequence[Attempt]) -> None:
        """These are all attempts; told on when anything about them changed."""
        shown = [each for each in map(self._shown, attempts) if each is not None]
        keys = {str(attempt.key) for attempt in attempts}
        with self._guard:
            self._attempts = shown
            self._paused = any(
                attempt.phase == "running" and attempt.spec.spec.kind in _TIMED for attempt in attempts
            )
            self._folders = {str(attempt.key): attempt.directory for attempt in attempts}
            self._energies = {key: found for key, found in self._energies.items() if key in keys}
            self._ended = {key: since for key, since in self._ended.items() if key in keys}
            for each in shown:
                if each.get("ended") is not None:
                    self._ended.setdefault(each["key"], clock())
        self._tell()

    def _shown(self, attempt: Attempt) -> dict[str, Any] | None:
        """An attempt as the process is told; None for one whose use of its device is not its own."""
        state, devices = attempt.state, _devices(attempt)
        if state is None or not state.started or not devices:
            return None
        shown = {
            "key": str(attempt.key),
            "devices": devices,
            "job_id": attempt.spec.job_id,
            "started": state.started,
        }
        if state.phase == "exited":
            shown["ended"] = state.started + state.elapsed_s
        mark = read_json(attempt.directory / MARK)
        return shown | ({"marks": mark["marks"]} if mark else {})

    def settled(self, attempt: Attempt) -> bool:
        """Known, or not to be known: its device has no meter, or the process does not answer."""
        key = str(attempt.key)
        with self._guard:
            metered = self._devices.intersection(_devices(attempt))
            waits = metered and key not in self._energies and key in self._ended
            return not waits or clock() - self._ended[key] > _PATIENCE_S

    def energy(self, attempt: Attempt) -> Energy | None:
        """What it used, where that is known."""
        with self._guard:
            return self._energies.get(str(attempt.key))

    # ---------------------------------------------------------------------------------- the process

    def _keep(self) -> None:
        """Have a process, and hear it, for ever."""
        while not self._stop.is_set():
            if not self._allowed.wait(_END_S):
                continue
            try:
                with open(self._log_path, "wb", opener=_private) as log:
                    child = subprocess.Popen(
                        self._command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        env=task_environment(),
                        start_new_session=True,
                    )
            except OSError as error:
                _log.warning("the telemetry cannot be started: %s", error)
                self._stop.wait(_AGAIN_S)
                continue
            self._gone.clear()
            with child:
                self._hear(child)
            self._gone.set()
            self._stop.wait(_AGAIN_S)

    def _hear(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        os.set_blocking(child.stdin.fileno(), False)
        telemetry_pid.note(self._state, child.pid)
        with self._guard:
            self._child, self._said = child, {}
        self._tell()
        for line in child.stdout:
            self._heed(json.loads(line))
        with self._guard:
            self._devices = frozenset()  # nothing is waited for
            self._child = None
        with contextlib.suppress(OSError):
            child.stdin.close()
        if not self._stop.is_set() and self._allowed.is_set():
            words = self._log_path.read_text(errors="replace")[-1000:].strip()
            _log.warning("the telemetry ended with status %s; starting it again. %s", child.wait(), words)

    def _heed(self, document: dict[str, Any]) -> None:
        with self._guard:
            if "metrics" in document:
                self._text = document["metrics"]
                self._devices = frozenset(document["devices"])
                self._fresh.set()
            for key, found in document.get("energy", {}).items():
                self._energies[key] = _energy(found)
            folders = {key: self._folders.get(key) for key in document.get("marks", ())}
        for key, folder in folders.items():
            if folder is not None:
                with contextlib.suppress(OSError):  # the attempt was forgotten meanwhile
                    write_json(folder / MARK, {"marks": document["marks"][key]}, durable=False)
        if "energy" in document:
            self._hint()

    def _tell(self) -> None:
        """All that is so, if it is not what was said last."""
        with self._guard:
            told = {
                "every_s": self._every_s,
                "paused": self._paused,
                "offline": self._offline,
                "offset_s": self._control.offset_s,
                "attempts": self._attempts,
            }
            if self._child is None or self._child.stdin is None or told == self._said:
                return
            try:
                self._child.stdin.write(json.dumps(told).encode() + b"\n")
                self._child.stdin.flush()
                self._said = told
            except OSError:  # it has died, or hears nothing any more: another will be started
                self._child.kill()
                self._child = None

    # --------------------------------------------------------------------------------------- the push

    def _push_all(self) -> None:
        while True:
            self._fresh.wait()
            if self._stop.is_set():
                return
            self._fresh.clear()
            self._stop.wait(self._push(self._text))

    def _push(self, text: str) -> float:
        """Send it; seconds for which the server is to be left alone. What is missed is in the next text's counters."""
        try:
            every_s = self._control.put_metrics(text)
        except Rejected as error:
            if error.status == _OVERTAKEN:
                return 0.0
            if str(error) != self._complaint:  # said once: an older server has no such route
                _log.warning("metrics: %s", error)
            self._complaint = str(error)
            return _REFUSED_S
        except ControlPlaneError as error:
            if not self._offline:
                _log.warning("metrics: %s; sampling goes on", error)
            self._now(offline=True)
            return _REFUSED_S if isinstance(error, Refused) else 0.0
        self._every_s = every_s
        self._now(offline=False)
        return 0.0

    def _now(self, offline: bool) -> None:
        if self._offline and not offline:
            _log.info("metrics are taken again; a summary of the time between is in them")
        self._offline = offline
        self._tell()


def _devices(attempt: Attempt) -> list[str]:
    """Those that are an attempt's alone: what others use too tells nothing of it."""
    spec = attempt.spec
    if spec.gpus:
        return list(spec.gpus)
    return [spec.device] if spec.device != "cpu" or spec.exclusive else []


def _energy(found: dict[str, Any] | None) -> Energy | None:
    if found is None:
        return None
    with contextlib.suppress(ValidationError):
        return Energy.model_validate(found)
    return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
