"""JSON documents and file descriptors over a SOCK_SEQPACKET socket: how the measuring and compiling processes talk."""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

Message = dict[str, Any]
# What one packet holds at most; the system's own limit is less, and what may be longer goes by `document_file`.
LONGEST = 1 << 20


def send(sock: socket.socket, message: Mapping[str, Any], fds: list[int] | None = None) -> None:
    """Send one document. BrokenPipeError or ConnectionResetError when the other side is gone."""
    socket.send_fds(sock, [json.dumps(message).encode()], fds or [])


def reply(sock: socket.socket, message: Message) -> None:
    """Send one document; a side that is gone is found out by the next reading."""
    try:
        send(sock, message)
    except (BrokenPipeError, ConnectionResetError):
        return


def packet_by(sock: socket.socket, stop: float) -> bytes | None:
    """The next packet, empty when the other side is gone, None when there is none by `stop` (monotonic)."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while not poll.poll(max(0.0, (stop - time.monotonic()) * 1000)):
        if time.monotonic() >= stop:
            return None
    try:
        return sock.recv(LONGEST)
    except ConnectionResetError:
        return b""


def serve(sock: socket.socket, commands: Mapping[str, Callable[..., Message]]) -> None:
    """Answer commands until the other side closes: {"do": name, …} calls `commands[name](fds, …)`.

    What goes wrong in the expected ways is an answer {"error": …}; anything else ends the process.
    """
    while True:
        try:
            packet, fds, _, _ = socket.recv_fds(sock, LONGEST, 1)
        except ConnectionResetError:
            return
        if not packet:
            return
        command = json.loads(packet)
        try:
            answer = commands[command.pop("do")](fds, **command)
        except (OSError, AttributeError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        for fd in fds:
            os.close(fd)
        reply(sock, answer)


def document_file(document: object) -> int:
    """A descriptor of memory that holds a JSON document of any length; the caller closes it."""
    fd = os.memfd_create("document")
    with os.fdopen(os.dup(fd), "w", encoding="utf-8") as file:
        json.dump(document, file)
    return fd


def document_in(fd: int) -> Any:
    """The JSON document that such a descriptor holds."""
    size = os.fstat(fd).st_size
    with mmap.mmap(fd, size, prot=mmap.PROT_READ) as memory:
        return json.loads(memory[:])
