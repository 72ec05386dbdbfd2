"""An agent to be attacked, as root or as nobody in particular, with what an attacker would look for round it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fleet.agents.attempts import State
from fleet.agents.processes import descendants, kill, leftovers
from fleet.agents.protocol import AttemptReport, WallReport
from fleet.agents.walls.groups import parent_group, prefix_of, remove_empty
from tests.attacks.armed import spec
from tests.attacks.kernel_calls import remove_memory
from tests.fleet.agents.conftest import until
from tests.fleet.agents.far_end import DEADLINE_S, JOIN_TOKEN, FarEnd

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 200_000 + os.getpid()  # nobody else's: what others run is not counted against its limits
LIMITS = {
    "TINYFLEET_MEMORY_BYTES": str(4 << 30),
    "TINYFLEET_PROCESSES": "64",
    "TINYFLEET_FOLDER_BYTES": str(256 << 20),
    "TINYFLEET_FOLDER_FILES": "20000",
}


class Fort:
    """An agent at work, another attempt that runs all the time, and listeners at loopback and in the file system."""

    def __init__(
        self, far_end: FarEnd, folder: Path, uid: int, walls: str, held: ExitStack, environ: Mapping[str, str]
    ) -> None:
        self.far_end = far_end
        self.folder = folder
        self.state = folder / "state"
        self.secret = folder / "secret" / "key.pem"
        self.secret.parent.mkdir()
        self.secret.write_text("canary-of-the-key")
        os.chown(folder, uid, uid)
        self._listen(held)
        self.process = self._start(uid, walls, environ)
        held.callback(self._end)
        far_end.wait(lambda: far_end.observed, f"a sync; {self.words()}")
        self.zygote = descendants(self.process.pid)[0]

    def admit_another(self) -> None:
        """Another attempt, that runs all the time."""
        self.other = self.far_end.submit(spec("wait_for_gate", segment=self.segment), timeout_s=3600.0)
        self.far_end.wait_running(self.other, "at the gate")

    def _listen(self, held: ExitStack) -> None:
        stream, packets = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.tcp, abstract = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
        for each in (stream, packets, self.tcp, abstract):
            held.enter_context(each)
        # A daemon's socket that everybody may write to lies where everybody can reach it.
        place = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="daemon-", dir="/tmp")))
        place.chmod(0o755)
        self.unix, self.abstract = (
            str(place / "daemon.sock"),
            f"tinyfleet-attacks-{os.getpid()}-{self.folder.name}",
        )
        stream.bind(self.unix)
        packets.bind(self.unix + ".datagrams")
        abstract.bind("\0" + self.abstract)
        for name in (self.unix, self.unix + ".datagrams"):
            os.chmod(name, 0o777)
        for each in (stream, abstract):
            each.listen(64)

    def _start(self, uid: int, walls: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "fleet.agents",
            "agent",
            "--server",
            self.far_end.url,
            "--name",
            "tiny1",
        ]
        command += ["--state", str(self.state), "--setup", "tests.attacks.armed:install", "--walls", walls]
        if uid != os.geteuid():
            self.state.mkdir(mode=0o700)
            os.chown(self.state, uid, uid)
            command = [
                sys.executable,
                "-m",
                "tests.attacks.unprivileged",
                str(uid),
                str(self.state),
                *command,
            ]
        environment = (
            os.environ | LIMITS | {"TINYFLEET_JOIN_TOKEN": JOIN_TOKEN, "PYTHONPATH": str(ROOT)} | environ
        )
        with (self.folder / "agent.log").open("wb") as log:
            # The folder above its state: what it was started in is nothing that attempts may read.
            return subprocess.Popen(command, cwd=self.state.parent, stdout=log, stderr=log, env=environment)

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        family = f"{self.state}/attempts/"
        kill(leftovers(family, set()), signal.SIGKILL)
        until(lambda: not leftovers(family, set()))
        with suppress(OSError):  # where no wall has kept it from the machine
            remove_memory(self.segment)
        parent = parent_group()
        if parent is not None:
            until(lambda: remove_empty(parent, prefix_of(self.state)) or not self._groups(parent))

    def _groups(self, parent: Path) -> list[Path]:
        return list(parent.glob(f"{prefix_of(self.state)}*"))

    def words(self) -> str:
        """What the agent has printed."""
        return (self.folder / "agent.log").read_text(errors="replace")

    @property
    def walls(self) -> dict[str, WallReport]:
        """As the agent reported them."""
        inventory = self.far_end.observed[0].inventory
        assert inventory is not None
        return {wall.name: wall for wall in inventory.walls}

    @property
    def standing(self) -> frozenset[str]:
        """Names of the walls that stand, in part at least."""
        return frozenset(name for name, wall in self.walls.items() if wall.state in ("up", "partial"))

    @property
    def segment(self) -> int:
        """The number of the other attempt's shared memory."""
        return 0x7F000000 | self.process.pid

    @property
    def target(self) -> dict[str, Any]:
        """What an attacker knows."""
        return {
            "state": str(self.state),
            "other": str(self.directory(self.other) / "work"),
            "agent": self.process.pid,
            "zygote": self.zygote,
            "port": self.tcp.getsockname()[1],
            "unix": self.unix,
            "abstract": self.abstract,
            "segment": self.segment,
        }

    @property
    def target_of_commands(self) -> dict[str, Any]:
        """What a program knows that cannot ask for its own supervisor: the other attempt's stands for it."""
        supervisor = self.recorded(self.other).supervisor
        assert supervisor is not None, "the other attempt has ended"
        return {**self.target, "supervisor": supervisor.pid}

    def directory(self, attempt: int) -> Path:
        return self.state / "attempts" / f"{attempt}-1"

    def recorded(self, attempt: int) -> State:
        """What the attempt's supervisor has written down."""
        found = State.load(self.directory(attempt))
        assert found is not None
        return found

    def attack(self, do: str, **fields: Any) -> AttemptReport:
        """The report of an attempt that does it, when it has ended."""
        timeout_s = fields.pop("timeout_s", 60.0)
        return self.run(spec(do, **fields), timeout_s=timeout_s)

    def run(self, job: dict[str, Any], **fields: Any) -> AttemptReport:
        """The report of an attempt of this spec, when it has ended."""
        return self.far_end.wait_exit(self.far_end.submit(job, **fields))

    def log(self, attempt: int) -> str:
        return bytes(self.far_end.logs.get((attempt, 1), b"")).decode(errors="replace")

    def healthy(self) -> bool:
        """The agent lives, is the same, and its next attempt works."""
        ended = self.attack("describe")
        return self.process.poll() is None and ended.outcome == "succeeded"


@contextmanager
def fort(uid: int, walls: str, *, others: bool = True, **environ: str) -> Iterator[Fort]:
    """A fort for as long as the context lasts, with another attempt in it."""
    with ExitStack() as held:
        folder = Path(tempfile.mkdtemp(prefix="attacks-", dir="/tmp"))
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        far_end = FarEnd().open()
        held.callback(far_end.close)
        made = Fort(far_end, folder, uid, walls, held, environ)
        if others:
            made.admit_another()
        yield made


def user_of(name: str) -> int:
    """The user as whom an agent of "root" or of "nobody" runs; skipped where there cannot be one of root."""
    if os.geteuid() == 0:
        return 0 if name == "root" else NOBODY
    if name == "root":
        pytest.skip("not root: no agent can be run as root")
    return os.geteuid()


def spare(stands: Fort) -> None:
    """Let the other attempt end, and see that nobody has touched it."""
    (stands.directory(stands.other) / "work" / "gate").touch()
    ended = stands.far_end.wait_exit(stands.other)
    assert ended.result is not None
    assert ended.result["canary"] == "canary"
    assert "planted" not in ended.result["here"]


__all__ = ["DEADLINE_S", "NOBODY", "ROOT", "Fort", "fort", "spare", "user_of"]
