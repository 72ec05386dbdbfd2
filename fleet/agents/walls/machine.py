"""What of the walls this machine can raise, by trying: `python -m fleet.agents.walls --state DIR` prints it.

Forks to try, so only a process of one thread may call it: that program, and the zygote.
"""

from __future__ import annotations

import os
import pwd
import shutil
import site
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fleet.agents.walls import calls, groups, landlock, seccomp, slots, ways
from fleet.agents.walls.bubblewrap import SHM, Enclosure, View, program
from fleet.agents.walls.landlock import EXECUTE, LIST, OWN, READ, Rule
from fleet.agents.walls.policy import WALLS, Mode, chosen

Step = Callable[[Path], None]
State = str  # "up", "partial", "missing", or "off": an operator said so
_ROOT = 0
_BELOW_PROC = frozenset({"/proc/sys/fs/binfmt_misc"})  # formats of programs: the kernel knows them without it


@dataclass(frozen=True)
class Wall:
    """One wall as it stands here. `detail` says what there is or is not, `fix` what to do about it."""

    name: str
    state: State
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Survey:
    """All walls of a node, and what they are built with."""

    mode: Mode
    walls: tuple[Wall, ...]
    parent_group: Path | None = None
    steps: tuple[Step, ...] = ()  # of the namespaces, that work here, in order
    network: int = -1  # a descriptor of the machine's network, where attempts may have it

    def has(self, name: str) -> bool:
        """Whether this wall stands, in part at least."""
        return any(wall.name == name and wall.state in ("up", "partial") for wall in self.walls)

    def state(self, name: str) -> State:
        """How this wall stands."""
        return next(wall.state for wall in self.walls if wall.name == name)

    def lacking(self) -> tuple[Wall, ...]:
        """The walls that do not stand whole, for whatever reason."""
        return tuple(wall for wall in self.walls if wall.state != "up")

    def document(self) -> list[dict[str, Any]]:
        """As JSON."""
        return [asdict(wall) for wall in self.walls]


def survey(state: Path, text: str) -> Survey:
    """Try everything that is meant by `text` (see policy.chosen) for attempts below the state directory."""
    mode, meant = chosen(text)
    parent = _parent_group()
    steps: list[Step] = []
    found: list[Wall] = []
    tries: dict[str, Callable[[], Wall]] = {
        "landlock": _landlock,
        "seccomp": _seccomp,
        "uid": lambda: _uid(needed(state)),
        "rights": lambda: Wall(
            "rights", "up", "no capabilities, none to gain from programs, no files for others"
        ),
        "limits": lambda: Wall("limits", "up", "processes, open files, file sizes, no core files"),
        "cgroup": lambda: _cgroup(parent),
        "memory": lambda: _memory(parent),
        "namespaces": lambda: _namespaces(state, steps),
        "bubblewrap": lambda: _bubblewrap(state, tuple(steps), found),
    }
    for name in WALLS:
        found.append(tries[name]() if name in meant else Wall(name, "off", "the operator said so"))
    return Survey(mode, tuple(found), parent if meant & {"cgroup"} else None, tuple(steps))


@cache
def code() -> list[Path]:
    """Folders whose files an attempt needs to read: Python, where its packages are installed, and ours.

    Not all of sys.path: `python -m` puts the working directory there, and the agent's is whatever it was started in.
    """
    ours = Path(__file__).resolve().parents[3]
    installed = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    packages = [
        *installed,
        *site.getsitepackages(),
        *([site.getusersitepackages()] if site.ENABLE_USER_SITE else []),
    ]
    found = [Path(item) for item in (sys.prefix, sys.base_prefix, *packages)]
    kept = [path.resolve() for path in found if path.is_dir() and path.resolve() != ours]
    return list(dict.fromkeys([*kept, ours / "engine", ours / "fleet"]))


def _landlock() -> Wall:
    version = landlock.version()
    if version == 0:
        return Wall("landlock", "missing", "not in this kernel", "a kernel from 5.13 on, with lsm=…,landlock")
    open_still = landlock.gaps(version)
    if open_still:
        return Wall(
            "landlock", "partial", f"version {version}: {open_still}", "a newer kernel (6.12 has it all)"
        )
    return Wall("landlock", "up", f"version {version}")


def _seccomp() -> Wall:
    if seccomp.supported():
        return Wall(
            "seccomp", "up", f"{len(seccomp.REFUSED)} calls refused, {len(seccomp.CONDITIONAL)} at times"
        )
    return Wall("seccomp", "missing", "no filters in this kernel, or for this processor", "x86-64 or aarch64")


def needed(state: Path) -> list[Path]:
    """Folders that an attempt's own user has to reach; it needs to list neither the state folder nor the attempts."""
    return [*code(), state]


def _uid(paths: list[Path]) -> Wall:
    if os.geteuid() != _ROOT:
        return Wall(
            "uid",
            "missing",
            "attempts run as the agent's own user",
            "run the agent as root: its attempts never do",
        )
    somebody = slots.inhabitant((user.pw_name, user.pw_uid) for user in pwd.getpwall())
    if somebody is not None:
        return Wall(
            "uid", "missing", f"the uid of {somebody} is among those for attempts", "give them another one"
        )
    problem = _tried(lambda: ways.open_ways(paths))
    if problem:
        fix = f"chmod o+rx {ways.closed(paths)}, or move what is in it; or CAP_SYS_ADMIN"
        return Wall("uid", "missing", f"another user cannot reach {ways.closed(paths)}: {problem}", fix)
    problem = _tried(lambda: slots.Slot.take().release()) or _tried(lambda: _become(slots.FIRST))
    if problem:
        return Wall("uid", "missing", f"no other user can be become here: {problem}", "CAP_SETUID and /run")
    return Wall("uid", "up", f"one of {slots.FIRST}–{slots.FIRST + slots.COUNT - 1} for each attempt")


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


_DELEGATE = "version 2, and in the agent's unit Delegate=memory pids and DelegateSubgroup=agent"


def _parent_group() -> Path | None:
    try:
        return groups.parent_group()
    except OSError:
        return None


def _cgroup(parent: Path | None) -> Wall:
    if parent is None:
        return Wall(
            "cgroup", "missing", "version 1 or none is mounted; orphans are found by their reaper", _DELEGATE
        )
    probe = groups.Group(parent / f"tinyfleet-probe-{os.getpid()}")
    try:
        probe.path.mkdir()
        able = (probe.path / "cgroup.kill").exists()
        probe.remove()
    except OSError as error:
        return Wall(
            "cgroup", "missing", f"{parent}: {error.strerror}; orphans are found by their reaper", _DELEGATE
        )
    if not able:
        return Wall(
            "cgroup", "missing", "no cgroup.kill; orphans are found by their reaper", "a kernel from 5.14 on"
        )
    return Wall("cgroup", "up", f"cgroup.kill at {parent}")


def _memory(parent: Path | None) -> Wall:
    on = groups.delegated(parent) if parent is not None else ()
    if set(on) == set(groups.CONTROLLERS):
        return Wall("memory", "up", "memory.max and pids.max for each attempt")
    lack = " and ".join(name for name in groups.CONTROLLERS if name not in on)
    return Wall("memory", "partial", f"no cgroup-2 controller {lack}: limits of each process only", _DELEGATE)


def _namespaces(state: Path, steps: list[Step]) -> Wall:
    """`steps` gets what works here, for `enter`."""
    problem = _tried(_leave)
    if problem:
        return Wall(
            "namespaces", "missing", f"none can be made: {problem}", "root, or unprivileged user namespaces"
        )
    steps.append(lambda state: _leave())
    for step, what, fix in (
        (close_files, "files not read-only", "a kernel from 5.12 on"),
        (hide_processes, "the command lines of others are seen", "mount nothing below /proc"),
    ):
        problem = _tried(lambda: [each(state) for each in (*steps, step)])  # noqa: B023 - called at once
        if problem:
            detail = f"no network, own IPC and host name; {what}: {problem}"
            return Wall("namespaces", "partial", detail, fix)
        steps.append(step)
    seen = ", other users' processes unseen" if os.geteuid() == _ROOT else ""
    return Wall(
        "namespaces",
        "up",
        f"no network, own IPC and host name, files read-only but for the agent's{seen}",
    )


def _bubblewrap(state: Path, steps: tuple[Step, ...], found: list[Wall]) -> Wall:
    """Round commands, inside the walls that were found."""
    if program() is None:
        return Wall("bubblewrap", "missing", "there is no bwrap", "apt-get install bubblewrap")
    own_user = any(wall.name == "uid" and wall.state == "up" for wall in found)
    if os.geteuid() == _ROOT and not own_user:
        fix = "the wall uid, or an agent that is not root"
        return Wall("bubblewrap", "missing", "attempts would be root: it is started by nobody who is", fix)
    there = os.access(
        state, os.W_OK | os.X_OK
    )  # whoever examines a machine may have no agent there, or another's
    folder = Path(tempfile.mkdtemp(prefix=".bubblewrap-", dir=state if there else None))
    try:
        problem = _tried(lambda: _wrap(state if there else folder, steps, folder / "work", own_user))
    finally:
        shutil.rmtree(folder)
    if problem:
        return Wall("bubblewrap", "missing", problem[:300], "unprivileged user namespaces, and a whole /proc")
    return Wall(
        "bubblewrap", "up", "round commands: no files but those that are named, no processes but theirs"
    )


def _wrap(state: Path, steps: tuple[Step, ...], work: Path, own_user: bool) -> None:
    """Run a program in it as an attempt would. OSError."""
    for folder in (work / "tmp", work / SHM):
        folder.mkdir(parents=True)
    if own_user:
        for folder in (work, work / "tmp", work / SHM):
            os.chown(folder, slots.FIRST, slots.FIRST)
        for folder in (state, work.parent):
            folder.chmod(0o711)
        ways.open_ways(needed(state))
    for step in steps:
        step(state)
    if own_user:
        _become(slots.FIRST)
    calls.give_up_capabilities()
    run = READ | LIST | EXECUTE
    system = [Path(name) for name in ("/usr", "/bin", "/lib", "/lib32", "/lib64")]
    rules = [Rule(path, run) for path in (*system, *code())]
    enclosure = Enclosure.begin(View((*rules, Rule(work, OWN)), work), {})
    enclosure.run(["true"], {"PATH": "/usr/bin:/bin"})
    if enclosure.wait() != 0:
        raise OSError("a program did not end as it should have")


def enter_namespaces(walls: Survey, state: Path) -> None:
    """Leave behind what the survey has found that can be. For the zygote, whose forks stay there."""
    for step in walls.steps:
        step(state)


def _leave() -> None:
    """The network, the System V IPC and the host name."""
    ours = calls.CLONE_NEWNET | calls.CLONE_NEWIPC | calls.CLONE_NEWUTS | calls.CLONE_NEWNS
    if os.geteuid() == _ROOT:
        calls.unshare(ours)
        return
    uid, gid = os.getuid(), os.getgid()
    calls.unshare(ours | calls.CLONE_NEWUSER)
    calls.prctl(calls.PR_SET_DUMPABLE, 1)  # else the next files are root's
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def close_files(state: Path) -> None:
    """Make every file system read-only for this process and its forks, but for what supervisors write to. OSError.

    After `_leave`, and either all of it works or the process is of no use: call it where it was tried.
    """
    calls.mount("none", "/", flags=calls.MS_REC | calls.MS_PRIVATE)
    ours = [str(path) for path in (state, slots.LOCKS) if path.is_dir()]
    for place in ours:
        calls.mount(place, place, flags=calls.MS_BIND | calls.MS_REC)
    calls.set_read_only("/")
    groups_at = groups.mount_of(Path("/proc/self/mountinfo").read_text())
    for place in (*ours, "/proc", *([str(groups_at)] if groups_at else [])):
        calls.set_writable(place)
    os.chdir("/")  # and not in what lies beneath a mount


def hide_processes(state: Path) -> None:
    """Have whoever is not root see no processes but their own: command lines and environments are not for everybody.

    After `close_files`. Where attempts are the agent's own user there is nobody to hide. OSError, also where something is
    mounted below /proc that would be lost, as containers do.
    """
    if os.geteuid() != _ROOT:
        return
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    below = [point for point in points if point.startswith("/proc/") and point not in _BELOW_PROC]
    if below:
        raise OSError(f"{below[0]} is mounted there")
    flags = calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC
    calls.mount("proc", "/proc", kind="proc", flags=flags, options="hidepid=invisible")


def _tried(act: Callable[[], object]) -> str:
    """What went wrong with `act` in a fork; empty for nothing."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the top of a process: whatever it was is the answer
            os.write(write, (str(error) or type(error).__name__).encode()[:400])
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read().decode(errors="replace")
