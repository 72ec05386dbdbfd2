"""The agent's end of the socket to root's part of the node."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.agents.root_verbs import Refusal

SOCKET = Path("/run/tinyfleet-root/socket")
_LONGEST = 1 << 20


class NoRoot(Exception):
    """Root's part does not answer: this node was not set up by the installer, or its service does not run."""


def root_socket(environ: Mapping[str, str] = os.environ) -> Path:
    """Where root's part listens: TINYFLEET_ROOT_SOCKET, else where the installer has it."""
    return Path(environ.get("TINYFLEET_ROOT_SOCKET") or SOCKET)


def ask(verb: str, *, path: Path | None = None, within_s: float = 30.0, **fields: Any) -> Mapping[str, Any]:
    """Have root's part do something; returns its answer. Refusal says why it does not, NoRoot that nobody is there."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(within_s)
            connection.connect(str(path or root_socket()))
            connection.sendall(json.dumps({"verb": verb, **fields}).encode() + b"\n")
            answer = _line(connection)
    except OSError as error:
        raise NoRoot(f"root's part at {path or root_socket()} does not answer: {error}") from error
    if not isinstance(answer, dict) or "done" not in answer:
        raise Refusal(str(answer.get("refused", "")) if isinstance(answer, dict) else str(answer))
    done: Mapping[str, Any] = answer["done"]
    return done


def _line(connection: socket.socket) -> Any:
    text = b""
    while not text.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece or len(text) > _LONGEST:
            raise OSError("it gave no answer")
        text += piece
    return json.loads(text)
