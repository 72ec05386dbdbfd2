"""What a task says to its supervisor, over a socket of their own: how far it is, and at last its result.

The supervisor believes nothing: what is too long or too deep, no JSON object, no text that UTF-8 can hold, or no number that
JSON knows, is as if it had not been said. It alone writes the files that the agent reads.
"""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

LONGEST = 192 * 1024  # what a socket takes as one packet, with room to spare
_DEEPEST = 64


def pair() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end and the task's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


class Voice:
    """The task's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def progress(self, document: dict[str, Any]) -> None:
        """Say how far it is; unsaid when the supervisor has not heard the last ones yet."""
        with contextlib.suppress(OSError):
            self._sock.send(json.dumps({"progress": document}).encode(), socket.MSG_DONTWAIT)

    def result(self, document: dict[str, Any]) -> None:
        """Say how it ended. OSError when it is longer than LONGEST, or nobody listens."""
        self._sock.send(json.dumps({"result": document}).encode())


def heard(sock: socket.socket) -> dict[str, Any] | None:
    """What was said next: {"progress": …} or {"result": …}, {} for nonsense; None for nothing now, and at the end."""
    try:
        packet, _, flags, _ = sock.recvmsg(LONGEST)
    except (BlockingIOError, ConnectionResetError):
        return None
    if not packet:
        return None
    return {} if flags & socket.MSG_TRUNC else _believable(packet)


def _believable(packet: bytes) -> dict[str, Any]:
    try:
        document = json.loads(packet, parse_constant=_no_number)
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
        return {}
    fits = isinstance(document, dict) and _depth(document) <= _DEEPEST
    return {name: value for name, value in document.items() if isinstance(value, dict)} if fits else {}


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _depth(document: Any) -> int:
    """Of JSON, without recursion: what is measured may be made to break it."""
    deepest, waiting = 0, [(document, 1)]
    while waiting:
        value, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(value, dict | list):
            inside = value.values() if isinstance(value, dict) else value
            waiting += [(item, depth + 1) for item in inside]
    return deepest
