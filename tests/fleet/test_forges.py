"""Keys from a forge, over the SSRF guard: a real server on loopback stands for the forge that a name leads to."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from sqlalchemy.orm import Session, sessionmaker

from fleet import access_keys, forges
from fleet.errors import InvalidSpec
from fleet.guard import GuardedTransport, guarded_client
from fleet.models import Audit
from fleet.principals import Principal
from tests.sshkeys import public_key

WEAK = "ssh-dss AAAAB3NzaC1kc3MAAACBAO"
PUBLIC = "93.184.215.14"


class ToLoopback(httpx.BaseTransport):
    """The network behind the guard: what was to go to the public address goes to the test's server."""

    def __init__(self, port: int) -> None:
        self._port, self._inner = port, httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The server's answer; the guard has chosen the address and kept the name."""
        assert request.url.host == PUBLIC
        assert request.extensions["sni_hostname"] == request.headers["host"]
        url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port)
        return self._inner.handle_request(httpx.Request("GET", url, headers=request.headers))

    def close(self) -> None:
        self._inner.close()


@contextmanager
def forge(pages: dict[str, tuple[int, str]], bomb: bytes = b"") -> Iterator[httpx.Client]:
    """A forge that shows these pages by path, and a guarded client to which its name is public. `bomb`: what it sends
    instead, as gzip."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = pages.get(self.path, (404, "nobody"))
            self.send_response(status)
            if bomb:
                self.send_header("Content-Encoding", "gzip")
            if status == 302:
                self.send_header("Location", text)
            self.end_headers()
            self.wfile.write(bomb or text.encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        inner = ToLoopback(server.server_address[1])
        with guarded_client(GuardedTransport(inner, lambda *_: [PUBLIC])) as client:
            yield client
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_keys_of_a_name_are_taken_once(
    sessions: sessionmaker[Session], admin: Principal, now: float
) -> None:
    text = f"{public_key(1).line}\n{WEAK}\n{public_key(2).line}\n"
    with forge({"/alice.keys": (200, text)}) as client, sessions.begin() as session:
        lines = forges.fetch(client, "github", "alice")
        found = forges.take(session, "github", "alice", lines, admin, now)
        assert [row.line for row in found.added] == [public_key(1).line, public_key(2).line]
        assert found.refused == ["key 2: DSA keys are not accepted: make one with ssh-keygen -t ed25519"]
        assert found.source == "https://github.com/alice.keys"
        assert [row.label for row in access_keys.live(session, "default", "root")] == ["alice 1", "alice 3"]
        assert session.query(Audit).filter(Audit.action == "key.import").count() == 1


def test_what_is_there_already_is_said_and_nothing_changes(
    sessions: sessionmaker[Session], admin: Principal, now: float
) -> None:
    lines = [public_key(1).line]
    with sessions.begin() as session:
        forges.take(session, "github", "alice", lines, admin, now)
    with pytest.raises(InvalidSpec, match="yours already"), sessions.begin() as session:
        forges.take(session, "github", "alice", lines, admin, now)


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ((404, "nobody"), "is the name right"),
        ((200, ""), "shows no key"),
        ((500, "oh"), "answers 500"),
        ((302, "https://127.0.0.1/admin"), "answers 302"),
        ((200, "x" * 300_000), "more than 262144 bytes"),
    ],
)
def test_an_answer_that_is_no_list_of_keys_is_refused(page: tuple[int, str], why: str) -> None:
    with forge({"/alice.keys": page}) as client, pytest.raises(InvalidSpec, match=why):
        forges.fetch(client, "codeberg", "alice")


def test_nothing_is_unpacked_for_a_forge() -> None:
    """A thousandth of the length that may be read would be as long as all of it."""
    bomb = gzip.compress(b"\n" * (8 << 20))
    pages = {"/alice.keys": (200, "")}
    with forge(pages, bomb) as client, pytest.raises(InvalidSpec, match="answers compressed"):
        forges.fetch(client, "codeberg", "alice")


@pytest.mark.parametrize(
    ("name", "user", "field"),
    [
        ("localhost", "alice", "forge"),
        ("127.0.0.1", "alice", "url"),
        ("10.0.0.1", "alice", "url"),
        ("git.example:8080/x", "alice", "forge"),
        ("user@git.example", "alice", "forge"),
        ("github", "../admin", "user"),
        ("github", "a/b", "user"),
        ("github", "a?b", "user"),
        ("github", "", "user"),
    ],
)
def test_no_name_leads_anywhere_else(name: str, user: str, field: str) -> None:
    with guarded_client() as client, pytest.raises(InvalidSpec) as caught:
        forges.fetch(client, name, user)
    assert caught.value.field == field


def test_a_name_that_leads_inwards_is_refused_before_anything_is_sent() -> None:
    sent: Callable[[httpx.Request], httpx.Response] = lambda _: pytest.fail("a request was sent")  # noqa: E731
    transport = GuardedTransport(httpx.MockTransport(sent), lambda *_: ["192.168.1.1"])
    with guarded_client(transport) as client, pytest.raises(InvalidSpec, match="not on the public internet"):
        forges.fetch(client, "git.example.org", "alice")
