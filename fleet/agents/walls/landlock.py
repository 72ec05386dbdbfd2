"""Landlock: which files a process may touch, and that it reaches neither TCP ports nor processes outside. No privilege needed.

Numbers and bits are the kernel's (include/uapi/linux/landlock.h, versions 1 to 7).
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from fleet.agents.walls import calls

TYPE_CHECKING = False  # `within` imports this, and wants nothing that is slow to import
if TYPE_CHECKING:
    from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_CREATE_VERSION, _PATH_BENEATH = 1, 1

EXECUTE, WRITE, READ, LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
MAKE_SOCKET, MAKE_FIFO, MAKE_LINK = 1 << 9, 1 << 10, 1 << 12
REFER, TRUNCATE, IOCTL = 1 << 13, 1 << 14, 1 << 15
_EVERYTHING_V1 = (1 << 13) - 1
_OF_FILES = EXECUTE | WRITE | READ | TRUNCATE | IOCTL
# Device nodes cannot be made anywhere: MAKE_CHAR and MAKE_BLOCK are in no rule.
OWN = (
    READ
    | LIST
    | WRITE
    | TRUNCATE
    | REFER
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_FILE
    | MAKE_FIFO
    | MAKE_LINK
)
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract unix sockets, signals
WITH_TCP, WITH_SCOPES = 4, 6


class Rule:
    """What may be done to the file, or at and below the folder, of this path."""

    __slots__ = ("access", "path")

    def __init__(self, path: Path, access: int) -> None:
        self.path = path
        self.access = access


def version() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    try:
        return calls.call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_CREATE_VERSION))
    except OSError:
        return 0


def gaps(found: int) -> str:
    """What Landlock of this version leaves open that later ones close, in words; empty for none."""
    missing = [
        (2, "links and renames between folders fail"),
        (3, "files may be truncated"),
        (WITH_TCP, "TCP is not covered"),
        (5, "ioctl on devices is not covered"),
        (WITH_SCOPES, "signals and abstract sockets of the same user are not covered"),
    ]
    return "; ".join(text for since, text in missing if found < since)


def ruleset(rules: Iterable[Rule], *, tcp: bool = True) -> int:
    """A descriptor for `restrict`. Paths that are not there are left out. OSError where there is no Landlock.

    `tcp`: its ports are shut; else they are not looked at.
    """
    return ruleset_of([(os.fsencode(rule.path), rule.access) for rule in rules], tcp=tcp)


def ruleset_of(rules: Iterable[tuple[bytes, int]], *, tcp: bool = True) -> int:
    """As `ruleset`, of paths and what may be done there."""
    here = version()
    handled = _EVERYTHING_V1 | (REFER if here >= 2 else 0) | (TRUNCATE if here >= 3 else 0)
    handled |= IOCTL if here >= 5 else 0
    attributes = struct.pack("=Q", handled)
    if here >= WITH_TCP:
        attributes += struct.pack("=Q", _TCP if tcp else 0)
    if here >= WITH_SCOPES:
        attributes += struct.pack("=Q", _SCOPES)
    descriptor = calls.call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    os.set_inheritable(descriptor, False)
    for path, access in rules:
        _add(descriptor, path, access & handled)
    return descriptor


def _add(ruleset: int, path: bytes, access: int) -> None:
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not there, or not ours to see: then there is nothing to allow
        return
    try:
        folder = stat.S_ISDIR(os.fstat(target).st_mode)
        attributes = struct.pack("=QI", access & (-1 if folder else _OF_FILES), target)
        calls.call(
            _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), attributes, ctypes.c_uint(0)
        )
    finally:
        os.close(target)


def restrict(ruleset: int) -> None:
    """This process and all that it starts, from now on and for ever. After no_new_privs."""
    calls.call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
