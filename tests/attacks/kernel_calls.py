"""Attacks on the kernel: calls that change the machine, or that are large and seldom needed. Most are given nonsense."""

from __future__ import annotations

import ctypes
import os
import time

from fleet.agents.walls import calls
from tests.attacks.trial import Target, call, permitted


def mount_something(target: Target) -> object:
    """Of a kind that there is not."""
    return permitted(165, 40, b"none", bytes(target.work), b"nosuchfs", 0, None)


def unmount_something(target: Target) -> object:
    """That is no mount."""
    return permitted(166, 39, bytes(target.work), 0)


def mount_by_descriptor(target: Target) -> object:
    return os.close(call(430, 430, b"tmpfs", 1))


def user_namespace(target: Target) -> object:
    return calls.unshare(calls.CLONE_NEWUSER)


def mount_namespace(target: Target) -> object:
    return calls.unshare(calls.CLONE_NEWNS)


def network_namespace(target: Target) -> object:
    return calls.unshare(calls.CLONE_NEWNET)


def agents_namespace(target: Target) -> object:
    """Back to the network that this node's attempts were taken out of."""
    return permitted(308, 268, os.open("/proc/self/ns/uts", os.O_RDONLY), 0)


def clone_user_namespace(target: Target) -> object:
    pid = call(56, 220, calls.CLONE_NEWUSER | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "cloned"


def clone3_user_namespace(target: Target) -> object:
    arguments = (ctypes.c_uint64 * 11)(calls.CLONE_NEWUSER, 0, 0, 0, 17)
    pid = call(435, 435, arguments, 88)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "cloned"


def pivot_root(target: Target) -> object:
    return permitted(155, 41, b"/nowhere", b"/nowhere")


def bpf(target: Target) -> object:
    return permitted(321, 280, 0, None, 0)


def perf(target: Target) -> object:
    attributes = ctypes.create_string_buffer(
        (1).to_bytes(4, "little") + (112).to_bytes(4, "little") + bytes(104), 112
    )
    return os.close(call(298, 241, attributes, -1, 0, -1, 0))


def io_uring(target: Target) -> object:
    return os.close(call(425, 425, 4, ctypes.create_string_buffer(120)))


def kernel_keys(target: Target) -> object:
    return call(248, 217, b"user", b"tinyfleet-attack", b"x", 1, -1)  # into this thread's own ring


def userfault(target: Target) -> object:
    return os.close(call(323, 282, 0))


def watch_all_files(target: Target) -> object:
    return os.close(call(300, 262, 0, 0))


def set_clock(target: Target) -> object:
    """To what it says."""
    return time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))


def adjust_clock(target: Target) -> object:
    """By nothing: a time constant that cannot be."""
    return permitted(305, 266, 9999, None)


def load_module(target: Target) -> object:
    return permitted(175, 105, None, 0, b"")


def load_module_from_file(target: Target) -> object:
    return permitted(313, 273, -1, b"", 0)


def next_kernel(target: Target) -> object:
    return permitted(246, 104, 0, 99, None, 0xFF)


def swap(target: Target) -> object:
    return permitted(167, 224, b"/nowhere", 0)


def reboot(target: Target) -> object:
    return permitted(169, 142, 0, 0, 0, None)


def account(target: Target) -> object:
    return permitted(163, 89, b"/nowhere")


def quota(target: Target) -> object:
    return permitted(179, 60, 0x80000300, b"/nowhere", 0, None)


def kernel_messages(target: Target) -> object:
    return call(103, 116, 10, None, 0)  # how many bytes there are


def layout_without_chance(target: Target) -> object:
    return call(135, 92, 0x0040000)


def host_name(target: Target) -> object:
    name = os.uname().nodename.encode()
    return call(170, 161, name, len(name))


def ports_of_the_machine(target: Target) -> object:
    return call(172, None, 3)


def segments(target: Target) -> object:
    return call(154, None, 0, ctypes.create_string_buffer(16), 16)


_CREATE, _FOR_ALL, _REMOVE, _PAGE = 0o1000, 0o666, 0, 4096
_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_ssize_t


def take_shared_memory(target: Target) -> object:
    return take_memory(target.segment)


def share_memory(number: int) -> None:
    """System V's, under a number by which everybody on the machine finds it, and that stays when its maker has ended."""
    ctypes.memmove(_attached(number, _CREATE | _FOR_ALL), b"canary", 6)


def take_memory(number: int) -> str:
    """What is in it. OSError when there is none."""
    return ctypes.string_at(_attached(number, 0), 6).decode()


def remove_memory(number: int) -> None:
    """Leave none of it on this machine. OSError when there is none."""
    _done(_libc.shmctl(_done(_libc.shmget(number, ctypes.c_size_t(_PAGE), 0)), _REMOVE, None))


def _attached(number: int, flags: int) -> int:
    found = _done(_libc.shmget(number, ctypes.c_size_t(_PAGE), flags))
    return _done(_libc.shmat(found, None, 0))


def _done(answer: int) -> int:
    if answer == -1:
        raise OSError(ctypes.get_errno(), "no shared memory")
    return answer


def type_into_terminal(target: Target) -> object:
    return permitted(16, 29, 0, 0x5412, b"x")


def paste_into_console(target: Target) -> object:
    return permitted(16, 29, 0, 0x541C, b"x")


def secret_memory(target: Target) -> object:
    return os.close(call(447, 447, 0))


def pages_of_others(target: Target) -> object:
    return permitted(256, 238, target.agent, 0, None, None)
