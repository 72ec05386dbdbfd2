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


def type_into_terminal(target: Target) -> object:
    return permitted(16, 29, 0, 0x5412, b"x")


def paste_into_console(target: Target) -> object:
    return permitted(16, 29, 0, 0x541C, b"x")


def secret_memory(target: Target) -> object:
    return os.close(call(447, 447, 0))


def pages_of_others(target: Target) -> object:
    return permitted(256, 238, target.agent, 0, None, None)
