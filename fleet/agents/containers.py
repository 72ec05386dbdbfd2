"""Containers round commands, by podman without root: an image's files in the place of the node's.

podman runs inside the attempt's cell: as its user, in its control group, under its limits. What it mounts is an image's
files, unpacked by the agent (agents.images) and read-only; the attempt's own folder, under the same path as outside, and
its data sets. Of the cell's walls Landlock and seccomp would keep podman itself from mounting anything; inside, a mount
namespace takes the place of the one and the runtime raises the other.

attempts/7-3/image     a link to the image's folder: files/ and image.json

What podman keeps of its one container lies in memory (walls.users), out of everybody's sight.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fleet.agents.durable import read_json, write_json
from fleet.agents.image_programs import check
from fleet.agents.processes import MARKER
from fleet.agents.walls import gpu
from fleet.agents.walls.oci import profile
from fleet.agents.walls.users import place

IMAGE = "image"
FILES, ABOUT = "files", "image.json"
ENGINE = "containers.json"  # in the state folder: with what containers run here
_NAME = "attempt"
_LONGEST = 60_000  # bytes of a line that podman reads
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INIT = ("/usr/libexec/podman/catatonit", "/usr/bin/catatonit", "/usr/bin/tini-static")
# Read by podman, its monitor, its runtime or the loader that starts these; a job must not steer them.
_STEERING = (
    *("LD_", "GLIBC_", "GCONV_", "MALLOC_", "GO", "CONTAINER", "_CONTAINER", "PODMAN", "LIBPOD", "STORAGE_"),
    *("XDG_", "DBUS_", "LISTEN_", "NOTIFY_", "REGISTR", "BUILDAH_", "OCI_", "TMPDIR", "PATH", "HOME", "USER"),
)


@dataclass(frozen=True)
class Engine:
    """With what containers run here: an OCI runtime, and whether it may make control groups of its own."""

    runtime: str
    cgroups: str  # as podman has it: disabled, enabled
    init: str  # a program that is the first process of a container, and passes signals on

    def save(self, state: Path) -> None:
        """For the attempts of this node."""
        write_json(state / ENGINE, asdict(self))

    @staticmethod
    def load(state: Path) -> Engine | None:
        """None where no container runs."""
        found = read_json(state / ENGINE)
        return None if found is None else Engine(**found)


def candidates() -> list[Engine]:
    """What may work here, best first: crun leaves control groups alone, runc passes over those that it may not make."""
    init = next((path for path in _INIT if os.access(path, os.X_OK)), "")
    if shutil.which("podman") is None or not init:
        return []
    known = (("crun", "disabled"), ("runc", "enabled"))
    return [Engine(name, cgroups, init) for name, cgroups in known if shutil.which(name)]


@dataclass(frozen=True)
class Box:
    """The container of one attempt, whose folder is `directory`."""

    directory: Path
    engine: Engine

    @staticmethod
    def of(work: Path) -> Box | None:
        """That of the attempt that works in this folder, if it has one."""
        if not (work.parent / IMAGE).is_symlink():
            return None  # and it may not read what the node says of its containers
        engine = Engine.load(work.parent.parent.parent)
        return None if engine is None else Box(work.parent, engine)

    @property
    def _work(self) -> Path:
        return self.directory / "work"

    @property
    def _state(self) -> Path:
        return self.directory.parent.parent

    def prepare(self, image: Path) -> None:
        """The attempt may start: this is its image. For the agent."""
        link = self.directory / IMAGE
        link.unlink(missing_ok=True)
        link.symlink_to(image)

    def _write_settings(self, gpus: bool, network: bool) -> None:
        """What podman reads."""
        Path(self._at("xdg")).mkdir(mode=0o700)
        settings: dict[str, dict[str, object]] = {
            "containers": {"default_sysctls": [], "pids_limit": 0},
            "engine": {
                "cgroup_manager": "cgroupfs",
                "events_logger": "none",
                "lock_type": "file",
                "runtime": self.engine.runtime,
            },
        }
        storage: dict[str, dict[str, object]] = {
            "storage": {"driver": "vfs", "graphroot": self._at("root"), "runroot": self._at("run")}
        }
        for name, document in (("containers.conf", settings), ("storage.conf", storage)):
            Path(self._at(name)).write_text(toml(document))
        Path(self._at("seccomp.json")).write_text(json.dumps(profile(sockets=gpus, network=network)))

    def environment(self) -> dict[str, str]:
        """podman's own: nothing of the job's."""
        return {
            "PATH": _PATH,
            "HOME": self._at(""),
            "TMPDIR": self._at(""),
            MARKER: str(self.directory),
            # It is in a namespace of users already (walls.users), as it says to itself when it has made one.
            "_CONTAINERS_USERNS_CONFIGURED": "done",
            "_CONTAINERS_ROOTLESS_UID": outer("uid"),
            "_CONTAINERS_ROOTLESS_GID": outer("gid"),
            "XDG_RUNTIME_DIR": self._at("xdg"),
            "CONTAINERS_CONF": self._at("containers.conf"),
            "CONTAINERS_STORAGE_CONF": self._at("storage.conf"),
        }

    def run(
        self,
        argv: Sequence[str],
        variables: Mapping[str, str],
        *,
        gpus: Iterable[int] = (),
        network: bool = False,
        readable: Iterable[Path] = (),
        mounts: Iterable[str] = (),
    ) -> tuple[list[str], dict[str, str]]:
        """The command line that runs `argv` in the container, and its environment. `readable`: folders of the node."""
        numbers = list(gpus)
        self._write_settings(bool(numbers), network)
        work, told = str(self._work), {**self._of_image(), **variables}
        named, environ = self._variables(told)
        # The runtime would copy what the image has there, by way of a folder that it cannot write to.
        tmpfs = {"/run": "size=16m,notmpcopyup", str(self._state): "size=1m,mode=0755,notmpcopyup"}
        folders = [f"{work}:{work}", *(f"{path}:{path}:ro" for path in readable), *mounts]
        folders += [f"{work}/tmp:{place}" for place in ("/tmp", "/var/tmp")]
        command = [
            *self._begin(),
            *(
                "run",
                "--name",
                _NAME,
                "--pidfile",
                self._at("pid"),
                "--log-driver",
                "passthrough",
                f"--cgroups={self.engine.cgroups}",
            ),
            *("--network", "host" if network else "none", "--no-hosts", "--hostname", "container"),
            *("--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"),
            *("--security-opt", "no-new-privileges", "--security-opt", f"seccomp={self._at('seccomp.json')}"),
            *("--init", "--init-path", self.engine.init, "--sig-proxy=false"),
            *(part for place, how in tmpfs.items() for part in ("--tmpfs", f"{place}:{how}")),
            *(part for folder in dict.fromkeys(folders) for part in ("--volume", folder)),
            *(part for number in numbers for node in gpu.nodes(number) for part in ("--device", str(node))),
            *("--workdir", work, *named),
            *("--rootfs", str((self.directory / IMAGE).resolve() / FILES), *argv),
        ]
        return command, environ

    def enter(self, argv: Sequence[str], variables: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        """As `run`, in the container that runs already."""
        named, environ = self._variables({**self._of_image(), **variables})
        command = [*self._begin(), "exec", "--workdir", str(self._work), *named, _NAME, *argv]
        return command, environ

    def check(self, program: str, variables: Mapping[str, str]) -> None:
        """FileNotFoundError or PermissionError when the image has no such program."""
        path = {**self._of_image(), **variables}["PATH"]
        check(program, path, (self.directory / IMAGE).resolve() / FILES, self._work)

    def ran(self) -> bool:
        """Whether the container has begun."""
        return Path(self._at("pid")).exists()

    def _begin(self) -> list[str]:
        folders = {"--root": "root", "--runroot": "run", "--tmpdir": "tmp"}
        return ["podman", *(part for option, name in folders.items() for part in (option, self._at(name)))]

    def _of_image(self) -> dict[str, str]:
        """The image's own variables, but for what the attempt's folder stands for."""
        found = json.loads((self.directory / IMAGE / ABOUT).read_bytes())["env"]
        pairs = (each.partition("=") for each in found)
        return {"PATH": _PATH} | {name: value for name, _, value in pairs if name != "HOME"}

    def _variables(self, told: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        """Options that hand a command its variables, and podman's environment: in a file, for others can read a command
        line; a value of several lines by name, for a line is one variable there. ValueError for one that can be neither."""
        lines, named, environ = [], [], self.environment()
        for name, value in told.items():
            if len(value.encode(errors="surrogateescape")) < _LONGEST and not {"\n", "\r"} & set(value):
                lines.append(f"{name}={value}\n")
            elif name.upper().startswith(_STEERING):
                raise ValueError(
                    f"{name} cannot have several lines in a container: podman itself would heed it"
                )
            else:
                environ[name] = value
                named += ["--env", name]
        path = Path(self._at(f"env-{os.getpid()}"))
        path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
        return ["--env-file", str(path), *named], environ

    def _at(self, name: str) -> str:
        return str(place(self._state) / name)


def outer(kind: str) -> str:
    """This process's uid or gid as it is outside of its namespace of users, where it is root."""
    return Path(f"/proc/self/{kind}_map").read_text().split()[1]


def toml(document: Mapping[str, Mapping[str, object]]) -> str:
    """Tables of texts, numbers, truths and empty lists; JSON writes these as TOML does."""
    tables = (
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for name, table in document.items()
    )
    return "\n".join(tables)


def inner(pids: Iterable[int]) -> list[int]:
    """Those of the processes that are inside a container, but for its first, which passes signals on to them."""
    return [pid for pid in pids if _place(pid) > 1]


def first(pids: Iterable[int]) -> int:
    """That of the processes which is the first of another namespace of processes; 0 for none."""
    return next((pid for pid in pids if _place(pid) == 1), 0)


def _place(pid: int) -> int:
    """A process's number in the innermost of its namespaces, when that is not ours; else 0."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            numbers = next((line.split()[1:] for line in status if line.startswith("NSpid:")), [])
    except OSError:
        return 0
    return int(numbers[-1]) if len(numbers) > 1 else 0
