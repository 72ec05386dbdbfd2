"""A real Debian of its own: debootstrapped, booted with its own systemd in its own namespaces, on this machine's loopback.

Root only. What it needs of the kernel is what containers need: namespaces and a control group of version 2.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.parts import missing, need
from tests.whole import until

SUITE = "bookworm"
PACKAGES = ("python3", "openssh-client", "ca-certificates", "curl", "bubblewrap", "systemd", "dbus")
_BUILD_S = 900
_RUN_S = 300
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# PID 1 of the machine: mounts as a container has them, then systemd. The network is this machine's: its loopback.
_BOOT = r"""
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
# Nodes of its own: what becomes of the mode of one, this machine must not feel.
for each in null:3 zero:5 full:7 random:8 urandom:9; do
  mknod -m 666 "$root/dev/${each%:*}" c 1 "${each#*:}"
done
mknod -m 666 "$root/dev/tty" c 5 0
mknod -m 600 "$root/dev/console" c 1 3
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
# Who is not root may mount /proc in namespaces of their own only where a whole one is seen, as machines have it.
mount -t proc proc "$root/sys/kernel/debug"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
cd "$root"
pivot_root . mnt  # a chroot could make no namespaces of its users
umount -l /mnt
exec env -i container=tests PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=multi-user.target
"""


def base() -> Path:
    """A debootstrapped system, made once and kept in the temporary folder; copy it before use."""
    if os.getuid() != 0:
        missing("a Debian of its own needs root")
    debootstrap = need("debootstrap", install="debootstrap")
    name = hashlib.sha256(" ".join([SUITE, *PACKAGES]).encode()).hexdigest()[:12]
    place = Path(tempfile.gettempdir()) / f"tinyfleet-debian-{name}"
    with Path(f"{place}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            fresh = Path(f"{place}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            command = [debootstrap, "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(fresh)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_S, check=False)
            if done.returncode != 0:
                shutil.rmtree(fresh, ignore_errors=True)
                missing(f"debootstrap cannot reach a mirror: {(done.stderr or done.stdout)[-500:]}")
            fresh.rename(place)
    return place


class Machine:
    """A Debian that runs; `init` is its systemd's pid out here."""

    def __init__(self, root: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self.root = root
        self._process = process
        self._log = log

    @property
    def init(self) -> int:
        """The pid of its systemd; the child of what made its namespaces."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def run(self, command: str, check: bool = True, **environ: str) -> str:
        """What a shell command in it prints, both streams."""
        enter = [
            "nsenter",
            f"--target={self.init}",
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--cgroup",
            "--root",
        ]
        settings = [
            f"{name}={value}" for name, value in {"PATH": _PATH, "LANG": "C.UTF-8", **environ}.items()
        ]
        done = subprocess.run(
            [*enter, "--", "env", "-C", "/", "-i", *settings, "sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_RUN_S,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def booted(self) -> bool:
        """Whether its systemd has come up; a unit that failed is no matter here."""
        if self._process.poll() is not None:
            missing(
                f"systemd does not boot in namespaces here: {self._log.read_text(errors='replace')[-800:]}"
            )
        if not self.init or b"systemd" not in Path(f"/proc/{self.init}/cmdline").read_bytes():
            return False
        return self.run("systemctl is-system-running", check=False).strip() in ("running", "degraded")

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run(f"systemctl show --property={name} --value {unit}").strip()


@contextlib.contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A copy of the base, booted; everything in it ends with the block."""
    need("nsenter", install="util-linux")
    root = folder / "debian"
    subprocess.run(["cp", "-a", "--reflink=auto", base(), root], check=True)
    group = _control_group()
    log = folder / "boot.log"
    join = f'echo $$ > {group}/cgroup.procs; exec "$@"'
    unshare = ["unshare", "--mount", "--pid", "--fork", "--ipc", "--uts", "--cgroup", "--kill-child"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", join, "sh", *unshare, "--", "sh", "-c", _BOOT, "sh", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        made = Machine(root, process, log)
        until(made.booted, "the Debian is up", 120.0)
        yield made
    finally:
        process.send_signal(signal.SIGKILL)  # its init goes with it, and all that runs there with that
        process.wait(30)
        until(lambda: _emptied(group), "its control groups are gone", 30.0)


def _control_group() -> Path:
    hierarchy = Path("/sys/fs/cgroup/unified")
    found = (hierarchy if hierarchy.is_dir() else hierarchy.parent) / f"tinyfleet-tests-{os.getpid()}"
    try:
        found.mkdir(exist_ok=True)
    except OSError as error:
        missing(f"no control group of version 2 can be made: {error}")
    return found


def _emptied(group: Path) -> bool:
    """Remove a control group and those below it, once nothing runs in them."""
    for each in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            each.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()
