"""Read what `fleet.agents.posture` judges: files of this machine, sshd's own word, the server's clock."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from fleet.agents import posture
from fleet.agents.authorities import pinned
from fleet.agents.client import server_clock
from fleet.agents.findings import Finding
from fleet.agents.journal import Unusable, identity_in

_INTERPRETERS = (
    "python*",
    "perl*",
    "ruby*",
    "node*",
    "php*",
    "lua*",
    "gdb",
    "bash",
    "dash",
    "awk",
    "gawk",
    "vim*",
)
_PATIENCE_S = 5.0
_STA_UNSYNC = 0x40
_STATUS_AT = 40  # bytes before `status` in struct timex on 64-bit Linux


def examine_posture(state: Path) -> list[Finding]:
    """How exposed this machine is. What needs root and does not have it is reported as not looked at."""
    return [
        _tried("sudo", _sudoers),
        _tried("passwords", _shadow),
        posture.interpreters(_attributes()),
        _tried("open servers", _listening),
        posture.sshd_version(_said(["sshd", "-V"]) or _said(["ssh", "-V"])),
        *_sshd(),
        posture.clock(_offset(state), _synchronised()),
        _state(state),
    ]


def _tried(subject: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except OSError as error:
        return posture.unread(subject, str(error.strerror))


def _sudoers() -> Finding:
    paths = [
        path for path in (Path("/etc/sudoers"), *sorted(Path("/etc/sudoers.d").glob("*"))) if path.is_file()
    ]
    return posture.sudoers({str(path): path.read_text(errors="replace") for path in paths})


def _shadow() -> Finding:
    crypt = _crypt()
    if crypt is None:
        return posture.unread("passwords", "there is no libcrypt")
    return posture.shadow(Path("/etc/shadow").read_text(), crypt)


def _crypt() -> Callable[[str, str], bool] | None:
    """Whether a password has a hash, by the system's own libcrypt (it knows yescrypt); Python's module is gone."""
    name = ctypes.util.find_library("crypt")
    if name is None:
        return None
    function = ctypes.CDLL(name).crypt
    function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_char_p, ctypes.c_char_p]

    def matches(password: str, hashed: str) -> bool:
        found: bytes | None = function(password.encode(), hashed.encode())
        return found == hashed.encode()

    return matches


def _attributes() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for folder in dict.fromkeys(("/usr/bin", "/usr/local/bin", "/usr/sbin", *os.get_exec_path())):
        for pattern in _INTERPRETERS:
            for path in Path(folder).glob(pattern):
                try:
                    found[str(path.resolve())] = os.getxattr(path, "security.capability")
                except OSError:
                    continue  # none, or a file system without them
    return found


def _listening() -> Finding:
    tables = [path.read_text() for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if path.exists()]
    return posture.remote_gpu_servers(tables)


def _sshd() -> list[Finding]:
    path = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if path is None:
        return []
    effective = _said([path, "-T"])
    if "permitrootlogin" not in effective.lower():
        return [posture.unread("sshd options", "sshd -T needs root")]
    return [posture.sshd_options(effective)]


def _said(command: list[str]) -> str:
    """What a command prints, on both channels; empty when it is not there or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _offset(state: Path) -> float | None:
    """Seconds by which this clock is ahead of that of the server which the node has joined."""
    try:
        who = identity_in(state)
    except (OSError, Unusable):
        return None
    theirs = None if who is None else server_clock(who.server, pinned(state))
    return None if theirs is None else time.time() - theirs


def _synchronised() -> bool:
    """Whether the kernel's clock is kept right by something (adjtimex, which only reads here)."""
    timex = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
        return False
    return not int.from_bytes(timex.raw[_STATUS_AT : _STATUS_AT + 4], "little") & _STA_UNSYNC


def _state(state: Path) -> Finding:
    names = ("", "identity.json", "node.key", "node.key.next", "attempts", "blobs")
    try:
        about = {name: (state / name).stat() for name in names if (state / name).exists()}
    except OSError as error:
        return posture.unread("state folder", str(error.strerror))
    owned = all(each.st_uid in (os.getuid(), 0) for each in about.values())
    return posture.state_folder(str(state), {name: each.st_mode for name, each in about.items()}, owned)
