"""System calls that Python has no name for, on x86-64 and aarch64."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 3, 4, 22
PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 28, 38, 47
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
CLONE_NEWCGROUP, CLONE_NEWPID = 0x02000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18

MODE_FILTER = 2  # of PR_SET_SECCOMP

_AMBIENT_CLEAR_ALL = 4
# Root's uid alone gives no capability any more, nor does becoming root, and nobody can change that.
_NO_ROOT_LOCKED = 0x0F
_CAPABILITY_VERSION_3 = 0x20080522
# name → number on x86-64 and on aarch64
_NUMBERS = {"capset": (126, 91), "unshare": (272, 97), "setns": (308, 268), "mount_setattr": (442, 442)}
_HERE, _WITH_ALL_BELOW = -100, 0x8000  # AT_FDCWD, AT_RECURSIVE
_READ_ONLY = 1


class _Filter(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def column() -> int | None:
    """Which of a pair of numbers is this machine's; None on one that is neither."""
    return {"x86_64": 0, "aarch64": 1}.get(os.uname().machine)


def call(number: int, *arguments: object) -> int:
    """The answer of a system call. OSError when it fails."""
    answer = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return answer


def named(name: str, *arguments: object) -> int:
    """As `call`, by the call's name."""
    at = column()
    if at is None:
        raise OSError(38, f"{name} has no number known here for {os.uname().machine}")
    return call(_NUMBERS[name][at], *arguments)


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    """The answer of prctl. OSError when it fails. A pointer is given as its number."""
    answer = int(_libc.prctl(option, *map(ctypes.c_long, (first, second, 0, 0))))
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return answer


def filter_calls(code: bytes) -> None:
    """Filter the calls of this process and of all that it starts, for ever (`seccomp.assembled`). After no_new_privs."""
    whole = _Filter(len(code) // 8, code)
    prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.addressof(whole))


def unshare(flags: int) -> None:
    """New namespaces for this process. Call it in one of a single thread."""
    named("unshare", ctypes.c_long(flags))


def enter_network(descriptor: int) -> None:
    """This process goes into the network namespace that is open there."""
    enter(descriptor, CLONE_NEWNET)


def enter(descriptor: int, kind: int) -> None:
    """This process goes into the namespace of this kind that is open there."""
    named("setns", ctypes.c_int(descriptor), ctypes.c_int(kind))


def give_back_memory() -> None:
    """What this process has freed goes back to the system, where its C library can do that."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


def mount(source: str, target: str, *, kind: str = "none", flags: int = 0, options: str = "") -> None:
    """mount(2). OSError names the target."""
    words = [text.encode() for text in (source, target, kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), options.encode()):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)


def set_read_only(target: str) -> None:
    """The mount at `target` and all below it become read-only, and private to this namespace. OSError."""
    _set_mount(target, _WITH_ALL_BELOW, struct.pack("=QQQQ", _READ_ONLY, 0, MS_PRIVATE, 0))


def set_writable(target: str) -> None:
    """The mount at `target`, and none below it, may be written to. OSError."""
    _set_mount(target, 0, struct.pack("=QQQQ", 0, _READ_ONLY, 0, 0))


def _set_mount(target: str, flags: int, attributes: bytes) -> None:
    size = ctypes.c_size_t(len(attributes))
    named("mount_setattr", ctypes.c_int(_HERE), target.encode(), ctypes.c_uint(flags), attributes, size)


def give_up_capabilities() -> None:
    """Have none, for good, not even by executing something as root. The bounding set goes where we may touch it."""
    with contextlib.suppress(
        OSError
    ):  # past the last capability, or not ours to drop: no_new_privs stands in
        for number in range(64):
            prctl(PR_CAPBSET_DROP, number)
    with contextlib.suppress(OSError):  # without CAP_SETPCAP there is nothing that root's uid would give
        prctl(PR_SET_SECUREBITS, _NO_ROOT_LOCKED)
    prctl(PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    header = ctypes.create_string_buffer(struct.pack("=II", _CAPABILITY_VERSION_3, 0), 8)
    named("capset", header, ctypes.create_string_buffer(24))
