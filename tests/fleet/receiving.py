"""A receiver of webhooks: a real HTTP server on loopback, reached through the real guard under a public name."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from fleet import guard

NO_TLS = ssl.create_default_context()  # made once: it takes longer than a request
PUBLIC = "93.184.216.34"
URL = "https://hooks.example/T0/secret-path"


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What came, and what is answered next: statuses in order, then 200; with headers, if any."""

    port: int
    received: list[Received] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def client(
        self, resolve: Callable[[str, int], list[str]] = lambda _host, _port: [PUBLIC]
    ) -> httpx.Client:
        """The guarded client, whose checked address is this server."""
        return guard.guarded_client(guard.GuardedTransport(_ToLoopback(self.port), resolve))


class _ToLoopback(httpx.BaseTransport):
    """Stands where the network is: the checked address is a server on loopback without TLS."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._inner = httpx.HTTPTransport(verify=NO_TLS, trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.host == PUBLIC, "the guard has let another address through"
        here = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port)
        return self._inner.handle_request(
            httpx.Request(request.method, here, headers=request.headers, stream=request.stream)
        )

    def close(self) -> None:
        self._inner.close()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver until the block ends."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.received.append(Received(self.path, headers, body))
            self.send_response(found.answers.pop(0) if found.answers else 200)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_said: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    found = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
