"""The last exposition on a local port, for a Prometheus beside the node. HTTP as far as a scrape needs it."""

from __future__ import annotations

import contextlib
import socket
import threading

from fleet.agents.exporter import CONTENT_TYPE

_PATIENCE_S = 2.0
_LONGEST = 8192


class Served:
    """What is served: the text, replaced as a whole."""

    text = ""


def serve(address: str, served: Served) -> int:
    """Serve GET /metrics on host:port in a thread, one request a connection; returns the port. OSError, ValueError."""
    host, _, port = address.rpartition(":")
    listening = socket.create_server((host.strip("[]"), int(port)), family=_family(host))
    threading.Thread(target=_accept, args=(listening, served), name="local metrics", daemon=True).start()
    return int(listening.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _accept(listening: socket.socket, served: Served) -> None:
    while True:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_PATIENCE_S)
            connection.sendall(_answer(_request(connection), served.text))


def _request(connection: socket.socket) -> bytes:
    heard = b""
    while b"\r\n\r\n" not in heard and len(heard) < _LONGEST:
        more = connection.recv(_LONGEST)
        if not more:
            break
        heard += more
    return heard.partition(b"\r\n")[0]


def _answer(line: bytes, text: str) -> bytes:
    """The whole response to a request's first line."""
    method, _, rest = line.partition(b" ")
    if method not in (b"GET", b"HEAD"):
        status, kind, body = "405 Method Not Allowed", "text/plain", b"only GET\n"
    elif rest.partition(b" ")[0].partition(b"?")[0] != b"/metrics":
        status, kind, body = "404 Not Found", "text/plain", b"only /metrics is here\n"
    elif not text:
        status, kind, body = "503 Service Unavailable", "text/plain", b"nothing has been collected yet\n"
    else:
        status, kind, body = "200 OK", CONTENT_TYPE, text.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + (b"" if method == b"HEAD" else body)
