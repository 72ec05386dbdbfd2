from __future__ import annotations

import socket
import threading
from contextlib import suppress

import httpx
import pytest

from fleet import guard
from fleet.errors import InvalidSpec

PUBLIC = "93.184.216.34"
INWARD = [
    "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "::",
    "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "::7f00:1", "2002:7f00:1::", "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.0.8", "fec0::1", "240.0.0.1", "168.63.129.16", "3fff::1",
    "2001:db8::1", "2001:0:7f00:1::",
]  # fmt: skip
MISSHAPEN = [
    "http://hooks.example/", "ftp://hooks.example/", "file:///etc/passwd", "gopher://x:70/_",
    "https://a@hooks.example/", "https://hooks.example:22/", "https://hooks.example:0/",
    "https://hooks.example:99999/", "https:///x", "https://ex\tample/", "https://example\\@127.0.0.1/",
    "https://ｅxample.com/", "https://[::1/", "https://x" + "a" * 3000, "//hooks.example/", "https://./",
]  # fmt: skip


@pytest.mark.parametrize("address", INWARD)
def test_a_name_with_an_address_that_leads_inwards_is_refused(address: str) -> None:
    for found in ([address], [PUBLIC, address]):
        with pytest.raises(InvalidSpec, match="public internet"):
            guard.check("https://hooks.example/x", resolve=lambda _host, _port, found=found: found)


@pytest.mark.parametrize("url", MISSHAPEN)
def test_a_url_of_another_shape_is_refused_before_it_is_looked_up(url: str) -> None:
    def never(_host: str, _port: int) -> list[str]:
        raise AssertionError("it was looked up")

    with pytest.raises(InvalidSpec):
        guard.check(url, resolve=never)


@pytest.mark.parametrize(
    "host", ["0x7f.1", "2130706433", "0177.0.0.1", "127.1", "[::ffff:7f00:1]", "localhost."]
)
def test_every_spelling_of_this_machine_is_refused_by_what_the_system_makes_of_it(host: str) -> None:
    with pytest.raises(InvalidSpec):
        guard.check(f"https://{host}/")


def test_a_public_name_keeps_its_addresses() -> None:
    found = guard.check("https://hooks.example:8443/x", resolve=lambda _host, _port: [PUBLIC])
    assert (found.host, found.port, found.addresses) == ("hooks.example", 8443, (PUBLIC,))


def test_a_name_without_addresses_is_refused() -> None:
    with pytest.raises(InvalidSpec):
        guard.check("https://hooks.example/", resolve=lambda _host, _port: [])


def test_the_request_goes_to_the_checked_address_under_its_name_and_follows_no_redirect() -> None:
    sent: list[httpx.Request] = []
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(302, headers={"Location": "https://127.0.0.1/"})

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]  # a name that is rebound after the check

    transport = guard.GuardedTransport(httpx.MockTransport(answer), resolve)
    with guard.guarded_client(transport) as client:
        assert client.post("https://hooks.example/x", content=b"hello").status_code == 302
        [request] = sent
        assert (request.url.host, request.headers["host"]) == (PUBLIC, "hooks.example")
        assert (request.extensions["sni_hostname"], request.read()) == ("hooks.example", b"hello")
        with pytest.raises(InvalidSpec):
            client.get("https://hooks.example/x")
    assert (len(sent), asked) == (1, ["hooks.example"] * 2)


class Inwards(httpx.HTTPTransport):
    """Sends what is meant for the world to a server of the test's own."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = httpx.URL(f"http://127.0.0.1:{self._port}/")
        return super().handle_request(request)


def test_an_answer_that_trickles_in_is_given_up_in_time() -> None:
    gone = threading.Event()

    def trickle(server: socket.socket) -> None:
        asked, _ = server.accept()
        with asked, suppress(OSError):
            asked.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not gone.wait(0.05):
                asked.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=trickle, args=(server,))
        thread.start()
        client = httpx.Client(transport=Inwards(server.getsockname()[1]))
        try:
            with pytest.raises(InvalidSpec, match="does not answer"):
                guard.read_text(client, "https://forge.example/alice.keys", "user", 262_144, within_s=0.3)
        finally:
            gone.set()
            thread.join()
            client.close()
