"""The calls that no attempt needs, refused inside containers too: the same tables, as an OCI runtime takes them.

A filter cannot be raised before the runtime has mounted the container's files, so the runtime raises this one last.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from fleet.agents.walls.seccomp import CONDITIONAL, REFUSED, Condition

_INT = 0xFFFFFFFF
_UNIX, _INET, _INET6 = 1, 2, 10
_LISTENING = ("bind", "listen")
_NETWORKING = (*_LISTENING, "connect", "accept", "accept4")
Rule = dict[str, Any]


def profile(*, sockets: bool = False, network: bool = False) -> dict[str, Any]:
    """What `--security-opt seccomp=FILE` reads. `sockets` and `network` as in `seccomp.program`."""
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            _refused("clone3", errno.ENOSYS),
            *_plain(sockets, network),
            *(rule for name, (_, condition) in CONDITIONAL.items() for rule in _conditional(name, condition)),
        ],
    }


def _plain(sockets: bool, network: bool) -> Iterator[Rule]:
    for name in REFUSED:
        if (network and name in _NETWORKING) or (sockets and name in _LISTENING):
            continue
        if name == "socket" and (network or sockets):
            yield from _all_but(name, (_INET, _INET6) if network else (_UNIX,))
        else:
            yield _refused(name, errno.EPERM)


def _refused(name: str, error: int, *arguments: dict[str, Any]) -> Rule:
    return {
        "names": [name],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": error,
        "args": list(arguments),
    }


def _argument(index: int, test: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{test}", "value": value, "valueTwo": second}


def _all_but(name: str, allowed: tuple[int, ...]) -> Iterator[Rule]:
    """A rule for each stretch of values of the first argument between those that are allowed."""
    for value in range(max(allowed)):
        if value not in allowed:
            yield _refused(name, errno.EAFNOSUPPORT, _argument(0, "EQ", value))
    yield _refused(name, errno.EAFNOSUPPORT, _argument(0, "GT", max(allowed)))


def _conditional(name: str, condition: Condition) -> Iterator[Rule]:
    """The name may be followed by words that tell two conditions of a call apart."""
    call, at, value = name.split()[0], condition.argument, condition.value
    if condition.test == "is not":
        yield _refused(call, errno.EPERM, _argument(at, "NE", value))
    elif condition.test == "is":
        yield _refused(call, errno.EPERM, _argument(at, "MASKED_EQ", _INT, value))
    elif condition.test == "kind is":
        yield _refused(call, errno.EPERM, _argument(at, "MASKED_EQ", 0xF, value))
    else:
        for bit in (1 << place for place in range(32)):
            if value & bit:
                yield _refused(call, errno.EPERM, _argument(at, "MASKED_EQ", bit, bit))
