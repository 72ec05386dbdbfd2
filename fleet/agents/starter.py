"""The agent's end of the socket to its zygote: starts one when needed, asks it for attempts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from fleet.agents.processes import MARKER, clock
from fleet.agents.spare import send

_AGAIN_S = 1.0  # a zygote that dies at once is not started more often
# A fork has one thread; these libraries would start theirs at import.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Starter:
    """One zygote, replaced when it dies. `generation` counts them: what an earlier one was asked may be lost."""

    def __init__(self, state: Path, setup: str = "", walls: str = "all", network: bool = False) -> None:
        self.generation = 0
        self._state = state
        self._setup = setup
        self._walls = walls
        self._network = network
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._not_before = 0.0

    def ensure(self) -> bool:
        """Whether a zygote is there to be asked; starts one when there is none, at most every second."""
        if self._process is not None and self._process.poll() is None:
            return True
        if clock() < self._not_before:
            return False
        self.close()
        self._spawn()
        return True

    def ask(self, attempt: str, sealed: int = -1) -> bool:
        """Ask for the attempt in the directory of this name, with the descriptor that holds its secrets; False when the
        zygote is gone."""
        if self._channel is None:
            return False
        try:
            send(self._channel, attempt, sealed)
        except (BrokenPipeError, ConnectionResetError, BlockingIOError):
            return False
        return True

    def last_words(self) -> str:
        """The end of what the zygote printed, for the error of an attempt that did not start."""
        found = [path.read_text(errors="replace")[-2000:] for path in self._logs if path.exists()]
        return next(filter(None, found), "")

    @property
    def _logs(self) -> tuple[Path, Path]:
        """What this zygote prints, and what the one before it printed: one that is still starting has said nothing."""
        return self._state / "zygote.log", self._state / "zygote.log.1"

    @property
    def pid(self) -> int | None:
        """The zygote's pid while there is one."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """Let the zygote end. Attempts go on."""
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            # It may still be importing; a request it has not served is made again by whoever looks next.
            self._process.terminate()
            self._process.wait()
        self._channel = self._process = None

    def _spawn(self) -> None:
        self._not_before = clock() + _AGAIN_S
        self.generation += 1
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)
        command = [sys.executable, "-P", "-m", "fleet.agents.zygote", "--socket", str(theirs.fileno())]
        command += ["--state", str(self._state), "--walls", self._walls]
        command += ["--job-network"] if self._network else []
        command += ["--setup", self._setup] if self._setup else []
        now, before = self._logs
        if now.exists():
            now.replace(before)
        with theirs, open(now, "wb", opener=_private) as log:
            self._process = subprocess.Popen(
                command,
                env=task_environment() | {MARKER: f"{self._state}/attempts/"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C at the agent's terminal is not for the attempts
            )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def task_environment() -> dict[str, str]:
    """The agent's environment without its settings and secrets, for processes that run tasks."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TINYFLEET_")}
    return kept | _ONE_THREAD
