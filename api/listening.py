"""The sockets that the server listens on, opened before anything else: a busy port ends the start at once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fleet.errors import InvalidSpec

BACKLOG = 2048  # connections that come before the application is ready wait here

Address = tuple[socket.AddressFamily, str]


@contextmanager
def listening_on(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Listening sockets on every address of `host`, all with one port; 0 takes a free one.

    Raises InvalidSpec naming --host or --port.
    """
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        problem: OSError | None = None
        for family, address in _addresses(host):
            try:
                sockets.append(opened.enter_context(_listen(family, address, port)))
            except OSError as error:
                # A machine may know an address family by name only; the others will do.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise _refused(host, port, error) from error
                problem = error
                continue
            port = sockets[0].getsockname()[1]
        if not sockets:
            raise InvalidSpec("--host", f"{host!r} is no address of this machine") from problem
        yield sockets


def _addresses(host: str) -> list[Address]:
    try:
        found = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidSpec("--host", f"{host!r} is no address of this machine: {error}") from error
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _listen(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    # With the protocol named: asyncio sends at once (TCP_NODELAY) only where it sees TCP, and else an answer's body waits
    # 40 ms for the client to acknowledge its head.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Else a port stays unusable for a minute after a server's end.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        opened.listen(BACKLOG)  # bound alone, it could still be taken by another that listens first
    except OSError:
        opened.close()
        raise
    return opened


def _refused(host: str, port: int, error: OSError) -> InvalidSpec:
    if error.errno == errno.EADDRINUSE:
        return InvalidSpec(
            "--port",
            f"{port} is taken: another program listens on {host}:{port}; stop it, or give another port",
        )
    if error.errno == errno.EACCES:
        return InvalidSpec("--port", f"{port} may not be listened on by this user: give one from 1024 on")
    return InvalidSpec("--port", f"{host}:{port} cannot be listened on: {error.strerror}")
