"""Attacks on other processes, and on being one process among others."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from fleet.agents.walls import calls
from tests.attacks.trial import Stopped, Target, call

_PR_GET_NO_NEW_PRIVS = 39
_SEIZE, _DETACH = 0x4206, 17
MANY = 400  # more than the limits that the tests give, and what else the fort's user runs


def read_environment(target: Target) -> object:
    return Path(f"/proc/{target.agent}/environ").read_bytes()[:4]


def read_memory(target: Target) -> object:
    with open(f"/proc/{target.agent}/mem", "rb"):
        return "opened"


def read_supervisors_memory(target: Target) -> object:
    with open(f"/proc/{target.supervisor}/mem", "rb"):
        return "opened"


def list_descriptors(target: Target) -> object:
    return os.listdir(f"/proc/{target.agent}/fd")


def enter_agents_root(target: Target) -> object:
    return os.listdir(f"/proc/{target.agent}/root")


def trace_agent(target: Target) -> object:
    return _traced(target.agent)


def trace_supervisor(target: Target) -> object:
    return _traced(target.supervisor)


def _traced(pid: int) -> str:
    call(101, 117, _SEIZE, pid, 0, 0)
    with contextlib.suppress(OSError):  # detaching wants it stopped; this process's end detaches too
        call(101, 117, _DETACH, pid, 0, 0)
    return "traced"


def read_by_process_vm(target: Target) -> object:
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    into = ctypes.create_string_buffer(8)
    here = Vector(ctypes.addressof(into), 8)
    there = Vector(ctypes.addressof(into), 8)  # a fork has it at the same place
    return call(310, 270, target.supervisor, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)


def signal_agent(target: Target) -> object:
    return os.kill(target.agent, 0)


def signal_supervisor(target: Target) -> object:
    return os.kill(target.supervisor, 0)


def signal_zygote(target: Target) -> object:
    return os.kill(target.zygote, 0)


def signal_everybody(target: Target) -> object:
    return os.kill(-1, 0)


def signal_by_descriptor(target: Target) -> object:
    return signal.pidfd_send_signal(os.pidfd_open(target.agent), 0)


def steal_descriptor(target: Target) -> object:
    return call(438, 438, os.pidfd_open(target.agent), 1, 0)


def change_agents_priority(target: Target) -> object:
    return os.setpriority(os.PRIO_PROCESS, target.agent, os.getpriority(os.PRIO_PROCESS, target.agent))


def move_agent_to_core(target: Target) -> object:
    return os.sched_setaffinity(target.agent, os.sched_getaffinity(target.agent))


def limit_agent(target: Target) -> object:
    now = resource.prlimit(target.agent, resource.RLIMIT_NOFILE)
    return resource.prlimit(target.agent, resource.RLIMIT_NOFILE, now)


def run_in_real_time(target: Target) -> object:
    """Nothing else would get the core any more."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return "it may"


def raise_own_priority(target: Target) -> object:
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 1)
    return "raised"


def be_root(target: Target) -> object:
    """With what root may do: be any other user."""
    os.setresuid(0, 0, 0)
    os.setresuid(1, 1, 1)
    return "root, and anybody else"


def regain_capabilities(target: Target) -> object:
    header = ctypes.create_string_buffer((0x20080522).to_bytes(4, "little") + bytes(4), 8)
    administers = (1 << 21).to_bytes(4, "little")  # CAP_SYS_ADMIN, effective and permitted
    call(126, 91, header, ctypes.create_string_buffer(administers * 2 + bytes(16), 24))
    return "the one to administer everything"


def rise_by_setuid_program(target: Target) -> object:
    if calls.prctl(_PR_GET_NO_NEW_PRIVS) == 1:
        raise Stopped("no_new_privs")
    return "a setuid program would give its owner's rights"


def inherited_descriptors(target: Target) -> object:
    """Anything but the three, the pipe of this trial and the socket to the supervisor."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            about = os.fstat(int(name))
        except OSError:
            continue
        if int(name) > 2 and not stat.S_ISFIFO(about.st_mode):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    if [each for each in found if not each.startswith(("socket:", "/proc/"))] or len(found) > 2:
        return found
    raise Stopped("nothing is inherited")


def dump_core(target: Target) -> object:
    """A core file is made by the kernel, with its rights, and may be piped to a program."""
    if resource.getrlimit(resource.RLIMIT_CORE) == (0, 0):
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
        except (OSError, ValueError) as error:
            raise Stopped("no core files") from error
    return "a core file would be written"


def fork_bomb(target: Target) -> object:
    """Fork until it is refused, or until there are more than the limit."""
    sleepers: list[int] = []
    try:
        return _until_refused(lambda: sleepers.append(_sleeper()))
    finally:
        for pid in sleepers:
            os.kill(pid, signal.SIGKILL)


def _sleeper() -> int:
    pid = os.fork()
    if pid:
        return pid
    while True:
        signal.pause()


def thread_bomb(target: Target) -> object:
    threading.stack_size(64 * 1024)
    stop = threading.Event()
    try:
        return _until_refused(lambda: threading.Thread(target=stop.wait, daemon=True).start())
    except RuntimeError as error:
        raise Stopped(str(error)) from error


def open_file_bomb(target: Target) -> object:
    kept: list[int] = []
    for _ in range(5000):
        kept.append(os.open("/dev/null", os.O_RDONLY))
    return f"{len(kept)} files are open"


def _until_refused(more: Callable[[], object]) -> str:
    for _ in range(MANY):
        more()
    return f"{MANY} of them"


def memory_bomb(target: Target) -> object:
    """Address space without a page touched; what is limited is the same."""
    block = mmap.mmap(-1, 8 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.close()
    return "8 GiB"


def huge_file(target: Target) -> object:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = target.work / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    path.unlink()
    return "4 TiB, all of it a hole"


def hide_from_the_agent(target: Target) -> object:
    """Leave the session, the parent and the environment; what stays is looked for when the attempt has ended."""
    (target.work / "pids").mkdir(exist_ok=True)
    for command in ([], ["/usr/bin/env", "-i", "/bin/sleep", "600"]):
        middle = os.fork()
        if middle:
            os.waitpid(middle, 0)
            continue
        os.setsid()
        if os.fork():
            os._exit(0)
        (target.work / "pids" / str(os.getpid())).touch()
        os.closerange(0, 1 << 16)
        if command:
            os.execv(command[0], command)
        while True:
            signal.pause()
    return "left"


def voice_of_supervisor(work: Path) -> socket.socket:
    """The socket that the task speaks through, found among its descriptors."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                return socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
    raise Stopped("there is none")


def compile_and_run(work: Path, source: str, compiler: str, arguments: list[str]) -> dict[str, str]:
    """What native code gets, compiled inside the walls: its verdicts by name."""
    (work / "native.c").write_text(source)
    subprocess.run([compiler, "-O1", "-o", "native", "native.c"], check=True, cwd=work)
    done = subprocess.run([work / "native", *arguments], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())
