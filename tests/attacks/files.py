"""Attacks on files: the agent's, other attempts', the system's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.attacks.trial import Stopped, Target, call


def read_token(target: Target) -> object:
    return (target.state / "identity.json").read_bytes()[:8]


def list_state(target: Target) -> object:
    return os.listdir(target.state)


def read_desired(target: Target) -> object:
    return (target.state / "desired.json").read_bytes()[:8]


def extend_lease(target: Target) -> object:
    return _writable(target.state / "lease.json")


def wake_agent(target: Target) -> object:
    """Open the FIFO that wakes the agent: an endless wake would keep a core busy."""
    return _writable(target.state / "hint")


def poison_node_cache(target: Target) -> object:
    """Leave a file among those that later attempts load."""
    return _made(target.state / "cache" / "planted.o")


def change_agents_code(target: Target) -> object:
    return _writable(Path(__file__).parents[2] / "fleet" / "agents" / "worker.py")


def forge_own_outcome(target: Target) -> object:
    return _writable(target.work.parent / "state.json")


def replace_own_assignment(target: Target) -> object:
    return _made(target.work.parent / "assignment.json.new")


def read_other_attempt(target: Target) -> object:
    return os.listdir(target.other)


def write_other_attempt(target: Target) -> object:
    return _made(target.other / "planted")


def read_shadow(target: Target) -> object:
    return Path("/etc/shadow").read_bytes()[:4]


def read_passwd(target: Target) -> object:
    return Path("/etc/passwd").read_bytes()[:4]


def read_logs(target: Target) -> object:
    return os.listdir("/var/log")


def read_agents_home(target: Target) -> object:
    """Keys for SSH are kept there."""
    return os.listdir(
        "/root" if os.stat(f"/proc/{target.agent}").st_uid == 0 else os.path.expanduser("~nobody")
    )


def symlink_out(target: Target) -> object:
    link = target.work / "to-token"
    link.symlink_to(target.state / "identity.json")
    return link.read_bytes()[:8]


def hardlink_in(target: Target) -> object:
    os.link(target.state / "identity.json", target.work / "linked")
    return (target.work / "linked").read_bytes()[:8]


def rename_in(target: Target) -> object:
    """Take the other attempt's file away, and bring it back."""
    os.rename(target.other / "canary", target.work / "taken")
    os.rename(target.work / "taken", target.other / "canary")
    return "taken"


def write_shared_tmp(target: Target) -> object:
    return _made(Path("/tmp") / f"planted-{os.getpid()}")


def write_shm(target: Target) -> object:
    return _made(Path("/dev/shm") / f"planted-{os.getpid()}")


def write_core_pattern(target: Target) -> object:
    """What the kernel runs as root at the next crash."""
    return _writable(Path("/proc/sys/kernel/core_pattern"))


def write_sysrq(target: Target) -> object:
    return _writable(Path("/proc/sysrq-trigger"))


def write_uevent_helper(target: Target) -> object:
    return _writable(
        Path("/sys/kernel/profiling")
        if not Path("/sys/kernel/uevent_helper").exists()
        else Path("/sys/kernel/uevent_helper")
    )


def read_physical_memory(target: Target) -> object:
    return _opened(Path("/dev/mem"))


def write_kernel_log(target: Target) -> object:
    return _writable(Path("/dev/kmsg"))


def read_disk(target: Target) -> object:
    """The file system beneath all permissions."""
    disks = [
        Path("/dev", name)
        for name in sorted(os.listdir("/dev"))
        if name.startswith(("vda", "sda", "nvme0n1"))
    ]
    return _opened(next((disk for disk in disks if stat.S_ISBLK(disk.stat().st_mode)), Path("/dev/mem")))


def leave_group(target: Target) -> object:
    """Move to the control group of everything, out of cgroup.kill's reach."""
    (Path(_group_mount()) / "cgroup.procs").write_text("0")
    return "left"


def _group_mount() -> str:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return line.split()[4]
    raise Stopped("no control groups of version 2")


def make_device(target: Target) -> object:
    path = target.work / "memory"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 1))
    path.unlink()
    return "made"


def set_setuid_bit(target: Target) -> object:
    path = target.work / "setuid"
    path.touch()
    path.chmod(0o4755)
    return oct(path.stat().st_mode)


def give_file_to_agent(target: Target) -> object:
    path = target.work / "given"
    path.touch()
    owner = os.stat(target.state.parent / "..").st_uid  # root
    os.chown(path, owner, owner)
    if os.geteuid() == owner:
        return "it was root's already"
    return "given"


def chroot_out(target: Target) -> object:
    os.chroot(target.work)
    return "changed"


def open_by_handle(target: Target) -> object:
    """A file by its number on disk, whatever folders lie above it."""
    handle = (8).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(8)
    from_root = os.open("/usr", os.O_RDONLY)
    try:
        return call(304, 265, from_root, handle, os.O_RDONLY)
    except OSError as error:
        if error.errno == 116:  # ESTALE: it was let look, and the number is of no file
            return "looked"
        raise


def _writable(path: Path) -> str:
    """Opened for writing and left as it is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.close(descriptor)
    return f"{path} can be written to"


def _opened(path: Path) -> str:
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    return f"{path} can be read"


def _made(path: Path) -> str:
    path.touch(exist_ok=False)
    path.unlink()
    return f"{path} can be made"
