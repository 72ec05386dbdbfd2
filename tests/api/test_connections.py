"""Slow and many connections, over real sockets against a real server."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from api.app import assemble
from api.connections import ConnectionLimits, TimedConnection
from api.settings import Settings
from fleet.settings import Settings as FleetSettings
from tests.api.conftest import Served, serving
from tests.whole import ROOT

SHORT = ConnectionLimits(header_s=1.0, body_s=1.0, body_bytes_per_s=1000.0, per_address=0)
GET = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
DEADLINE_S = 8.0  # one second is the promise; a busy machine may be late with it


SAID = re.compile(
    r"Headers must arrive within (\d+) s, a body within (\d+) s and the time it takes at (\d+) KiB a second; "
    r"an address holds (\d+) connections"
)


@pytest.fixture
def served_with(settings: FleetSettings) -> Iterator[Callable[[ConnectionLimits], Served]]:
    """A function that starts a server with these limits."""
    with ExitStack() as stack:

        def start(limits: ConnectionLimits) -> Served:
            parts = assemble(dataclasses.replace(Settings(fleet=settings, port=0), connections=limits))
            return stack.enter_context(serving(parts, run_controllers=False))

        yield start


def connect(served: Served) -> socket.socket:
    """A connection to the server."""
    url = urlsplit(served.url)
    assert url.hostname is not None
    return socket.create_connection((url.hostname, url.port or 0), timeout=DEADLINE_S)


def ended(connection: socket.socket) -> bool:
    """Read to the end: True when the server ended it, False when nothing came for as long as the deadline."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def dripped_to_the_end(connection: socket.socket, seconds: float = DEADLINE_S) -> bool:
    """Send a byte every tenth of a second: True when the server ends the connection meanwhile."""
    until = time.monotonic() + seconds
    connection.settimeout(0.1)
    while time.monotonic() < until:
        try:
            connection.sendall(b"a")
            if connection.recv(65536) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_what_the_documentation_says_is_what_a_server_has_that_is_told_nothing(
    settings: FleetSettings,
) -> None:
    said = SAID.search(" ".join((ROOT / "docs" / "access.md").read_text().split()))
    assert said is not None
    header_s, body_s, kib_per_s, per_address = map(int, said.groups())
    assert Settings(fleet=settings).connections == ConnectionLimits(
        header_s, body_s, kib_per_s * 1024.0, per_address
    )


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    "begin",
    [b"", b"GET /liv", GET, GET + b"X-Slow: ", POST + b"Content-Length: 100\r\n\r\n{"],
    ids=["silence", "request line", "headers", "a header", "body"],
)
def test_a_slow_request_is_ended_at_the_deadline_however_it_drips(
    served_with: Callable[[ConnectionLimits], Served], begin: bytes
) -> None:
    served = served_with(SHORT)
    for end in (ended, dripped_to_the_end):
        with closing(connect(served)) as connection:
            connection.sendall(begin)
            assert end(connection)


@pytest.mark.real
@pytest.mark.slow
def test_a_body_that_nobody_reads_is_ended_at_the_deadline(
    served_with: Callable[[ConnectionLimits], Served],
) -> None:
    served = served_with(SHORT)
    with closing(connect(served)) as connection:
        connection.sendall(GET + b"Content-Length: 1000000\r\n\r\nx")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert dripped_to_the_end(connection)


class Transport:
    """A transport whose buffer is full, or not."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(("reads", "is_ended"), [(False, True), (True, False)])
def test_whoever_asks_and_never_reads_is_ended(reads: bool, is_ended: bool) -> None:
    """What is written is in one buffer after the other, of this process and of two kernels: only the last one's end is here."""

    async def stalled() -> bool:
        connection = object.__new__(TimedConnection)
        connection.loop, connection._stalled = asyncio.get_running_loop(), None
        connection._limits = dataclasses.replace(SHORT, stalled_s=0.01)
        connection.transport = Transport()  # type: ignore[assignment]
        connection.flow = FlowControl(connection.transport)
        connection.pause_writing()
        if reads:
            connection.resume_writing()
        await asyncio.sleep(0.3)
        return connection.transport.aborted  # type: ignore[attr-defined, no-any-return]

    assert asyncio.run(stalled()) is is_ended


@pytest.mark.real
@pytest.mark.slow
def test_a_body_that_is_large_and_not_slow_is_read_beyond_the_deadline(
    served_with: Callable[[ConnectionLimits], Served],
) -> None:
    served = served_with(SHORT)
    with closing(connect(served)) as connection:
        connection.sendall(POST + b"Content-Length: 10000\r\n\r\n" + b" " * 5000)
        assert not dripped_to_the_end(connection, 3.0)


@pytest.mark.real
@pytest.mark.slow
def test_none_of_many_slow_connections_is_left_after_the_deadline(
    served_with: Callable[[ConnectionLimits], Served],
) -> None:
    served = served_with(SHORT)
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connect(served))) for _ in range(400)]
        for connection in slow:
            connection.sendall(GET)
        assert sum(not ended(connection) for connection in slow) == 0
        with closing(connect(served)) as connection:
            connection.sendall(GET + b"\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_an_address_has_only_so_many_connections_and_gets_one_back(
    served_with: Callable[[ConnectionLimits], Served],
) -> None:
    served = served_with(ConnectionLimits(per_address=3))

    def answered(connection: socket.socket) -> bool:
        try:
            connection.sendall(GET + b"\r\n")
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
        except ConnectionError:
            return False

    with ExitStack() as stack:
        three = [stack.enter_context(closing(connect(served))) for _ in range(3)]
        assert all(map(answered, three))
        with closing(connect(served)) as fourth:
            assert not answered(fourth)
        three[0].sendall(GET + b"Connection: close\r\n\r\n")
        assert ended(three[0])  # so the server has counted it off
        with closing(connect(served)) as another:
            assert answered(another)


def test_a_body_of_two_lengths_hides_no_second_request(
    served_with: Callable[[ConnectionLimits], Served],
) -> None:
    """A proxy that goes by the length would send the next request behind what it takes for a body."""
    served = served_with(ConnectionLimits())
    body = b"0\r\n\r\n" + GET + b"\r\n"
    lengths = f"Content-Length: {len(body)}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with closing(connect(served)) as connection, connection.makefile("rb") as answers:
        connection.sendall(GET + lengths + body)
        said = answers.read()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1


def test_a_connection_is_kept_between_requests(served_with: Callable[[ConnectionLimits], Served]) -> None:
    served = served_with(dataclasses.replace(SHORT, header_s=5.0))
    with closing(connect(served)) as connection, connection.makefile("rb") as answers:
        for _ in range(3):
            connection.sendall(GET + b"\r\n")
            assert answers.readline().startswith(b"HTTP/1.1 200")
            while answers.readline() != b"\r\n":
                pass
            assert answers.read(len(b'{"status":"ok"}')) == b'{"status":"ok"}'
