"""seccomp: system calls that no attempt needs are refused. The filter is a classic BPF program, assembled here.

A list of what is refused and not of what is allowed: compilers, Python and drivers use many calls and new ones, and what
keeps an attempt from the world's files is Landlock. A call that is refused answers EPERM and not a signal, so
that a library which merely tries falls back.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.agents.walls import calls

# name → number on x86-64 and on aarch64; None where the call is not there
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other processes' memory, files and limits
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "migrate_pages": (256, 238),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    # the kernel's large surfaces
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "memfd_secret": (447, 447),
    "fanotify_init": (300, 262),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "modify_ldt": (154, None),
    # the machine
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "personality": (135, 92),
    # priorities
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    # the network, and sockets that other programs listen on; socketpair is left
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
}


# Memory, semaphores and queues that outlive who made them and are everybody's by number: refused unless the attempt has
# an IPC namespace of its own, in which they end with it.
SYSTEM_V: dict[str, tuple[int, int]] = {
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
}


@dataclass(frozen=True)
class Condition:
    """Refuse a call when its argument number `argument` is, has any bit of, or is not `value` (32 bits of it)."""

    argument: int
    test: str  # "is", "has", "is not", or "kind is": the lowest four bits
    value: int


# name → numbers, and when it is refused
_OTHERS_ONLY = Condition(0, "is not", 0)  # 0 is whoever calls
_SETUID_BITS = 0o6000
CONDITIONAL: dict[str, tuple[tuple[int | None, int | None], Condition]] = {
    "prlimit64": ((302, 261), _OTHERS_ONLY),
    "setpriority": ((141, 140), Condition(1, "is not", 0)),
    "setpriority of a group or a user": ((141, 140), Condition(0, "is not", 0)),
    "kill of everything": ((62, 129), Condition(0, "is", 0xFFFFFFFF)),
    "clone": ((56, 220), Condition(0, "has", 0x7E020080)),  # every CLONE_NEW… flag
    # a pair of datagram sockets can send to any address; those of streams and of packets cannot
    "socketpair": ((53, 199), Condition(1, "kind is", 2)),
    "chmod": ((90, None), Condition(1, "has", _SETUID_BITS)),
    "fchmod": ((91, 52), Condition(1, "has", _SETUID_BITS)),
    "fchmodat": ((268, 53), Condition(2, "has", _SETUID_BITS)),
    "fchmodat2": ((452, 452), Condition(2, "has", _SETUID_BITS)),
    # characters put into a terminal's input
    "ioctl TIOCSTI": ((16, 29), Condition(1, "is", 0x5412)),
    "ioctl TIOCLINUX": ((16, 29), Condition(1, "is", 0x541C)),
}
_LISTENING = ("bind", "listen")
_NETWORKING = (*_LISTENING, "connect", "accept", "accept4")
_UNIX, _INET, _INET6 = 1, 2, 10
_CLONE3 = 435  # its flags are in memory, out of a filter's sight: libraries fall back to clone
_AUDIT = (0xC000003E, 0xC00000B7)  # AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64
_X32 = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def program(
    column: int, *, sockets: bool = False, network: bool = False, system_v: bool = False
) -> list[Instruction]:
    """The filter for an architecture: 0 is x86-64, 1 is aarch64.

    With `sockets`, unix sockets may be made and listened on, as CUDA does for other processes of its own; not connected.
    With `network`, sockets of the internet may be made and used in every way; those of other programs here may not, and so
    with both, unix sockets are none. With `system_v`, its shared memory, semaphores and queues may be used.
    """
    made: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _AUDIT[column]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if column == 0:
        made += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    made += [(_EQUAL, 0, 1, _CLONE3), _refuse(errno.ENOSYS)]
    for name, numbers in REFUSED.items():
        if (network and name in _NETWORKING) or (sockets and name in _LISTENING):
            continue
        if network and name == "socket":
            made += _one_of(numbers[column], (_INET, _INET6), errno.EAFNOSUPPORT)
        elif sockets and name == "socket":
            made += _conditional(numbers[column], Condition(0, "is not", _UNIX), errno.EAFNOSUPPORT)
        elif (number := numbers[column]) is not None:
            made += [(_EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    for pair in () if system_v else SYSTEM_V.values():
        made += [(_EQUAL, 0, 1, pair[column]), _refuse(errno.EPERM)]
    for numbers, condition in CONDITIONAL.values():
        made += _conditional(numbers[column], condition, errno.EPERM)
    return [*made, (_RETURN, 0, 0, _ALLOW)]


def _refuse(error: int) -> Instruction:
    return _RETURN, 0, 0, _ERRNO | error


def _conditional(number: int | None, condition: Condition, error: int) -> list[Instruction]:
    """Each block leaves the call's number loaded, as it found it."""
    if number is None:
        return []
    block: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * condition.argument)]
    if condition.test == "kind is":
        block.append((_AND, 0, 0, 0xF))
    if condition.test == "is not":
        block.append((_EQUAL, 1, 0, condition.value))
    else:
        block.append((_ANY_BIT if condition.test == "has" else _EQUAL, 0, 1, condition.value))
    block += [_refuse(error), (_LOAD, 0, 0, _NUMBER_AT)]
    return [(_EQUAL, 0, len(block), number), *block]


def _one_of(number: int | None, allowed: Sequence[int], error: int) -> list[Instruction]:
    """Refuse a call unless its first argument is one of these."""
    if number is None:
        return []
    block: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS_AT)]
    for place, value in enumerate(allowed):
        block.append((_EQUAL, len(allowed) - place, 0, value))
    block += [_refuse(error), (_LOAD, 0, 0, _NUMBER_AT)]
    return [(_EQUAL, 0, len(block), number), *block]


def assembled(instructions: Sequence[Instruction]) -> bytes:
    """As the kernel reads it: struct sock_filter, little-endian on both architectures."""
    return b"".join(struct.pack("<HBBI", *each) for each in instructions)


def supported() -> bool:
    """Whether the kernel takes filters: it says that nothing is a bad address, and not a bad wish."""
    if calls.column() is None:
        return False
    try:
        calls.prctl(calls.PR_SET_SECCOMP, calls.MODE_FILTER)
    except OSError as error:
        return error.errno == errno.EFAULT
    return False
