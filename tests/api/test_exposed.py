"""A server process that strangers reach: what it writes holds no secret, and what they send does not fill its memory."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from fleet.client import Client
from tests.whole import ROOT, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
MIB = 1 << 20
HUGE = 300 * MIB


@dataclass(frozen=True)
class Running:
    """A server process, where it answers, its administrator's token, and all that it writes."""

    process: subprocess.Popen[bytes]
    url: str
    token: str
    folder: Path

    def peak_bytes(self) -> int:
        """The most memory that it has had at once."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def stop(self) -> None:
        """SIGTERM."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)

    def written(self) -> dict[str, bytes]:
        """Every file that it has written, but the administrator's token file, which is for that."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != "admin-token"]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """`tinyfleet serve --access-log` over an empty folder."""
    ready = tmp_path / "ready.json"
    serve = [
        "-m",
        "api",
        "--port",
        "0",
        "--data",
        str(tmp_path / "data"),
        "--ready-file",
        str(ready),
        "--access-log",
    ]
    with (tmp_path / "stdout").open("wb") as out, (tmp_path / "stderr").open("wb") as err:
        process = subprocess.Popen([sys.executable, *serve], cwd=ROOT, stdout=out, stderr=err)
    try:
        until(ready.exists, "the server is ready", 60.0)
        said = json.loads(ready.read_text())
        token = Path(said["admin_token_file"]).read_text().strip()
        found = Running(process, said["url"], token, tmp_path)
        yield found
        found.stop()
    finally:
        process.kill()
        process.wait()


def misuse(url: str, canary: str) -> None:
    """Send a token where it belongs and wherever else people put one."""
    headers = {"Authorization": f"Bearer {canary}"}
    with httpx.Client(base_url=url, headers=headers, timeout=20) as http:
        assert http.get("/v1/whoami").status_code == 200
        http.get("/v1/jobs", params={"token": canary})
        http.get(f"/v1/jobs/{canary}")
        http.get(f"/{canary}", headers={"Authorization": canary, "User-Agent": canary, "Cookie": canary})
        http.post("/v1/jobs", content=canary, headers={"Content-Type": "application/json"})
        http.post("/v1/jobs", json={canary: canary})
        http.post("/v1/jobs", json={"spec": {"kind": canary}}, headers={"Idempotency-Key": "x"})
        http.post("/v1/agents/enroll", json={})
        http.put(f"/v1/secrets/{'a' * 10}", json={"value": canary})
    url_parts = urlsplit(url)
    with closing(socket.create_connection((url_parts.hostname or "", url_parts.port or 0), 20)) as raw:
        raw.sendall(
            f"GET /{canary} HTTP/9.9\r\n{canary}\r\n\r\n".encode()
        )  # what is no HTTP is logged as a warning
        with suppress(OSError):
            raw.recv(1000)


def test_no_byte_that_the_server_writes_holds_a_token(running: Running) -> None:
    with Client(running.url, running.token) as client:
        minted = [client.mint_token("canary", role="admin").secret, client.join_token().secret]
        for canary in minted[:1]:
            misuse(running.url, canary)
        with suppress(Exception):
            httpx.post(
                f"{running.url}/v1/agents/enroll", json={}, headers={"Authorization": f"Bearer {minted[1]}"}
            )
        client.remove_person("canary")
    running.stop()
    written = running.written()
    assert {"stdout", "stderr", "data/fleet.db"} <= written.keys()
    for name, content in written.items():
        for secret in (*minted, running.token):
            assert secret.encode() not in content, name
            assert secret[4:47].encode() not in content, name
    stderr = written["stderr"].decode()
    assert stderr.count("[redacted:") >= 3  # so the canary was there to be found
    for line in stderr.splitlines():
        assert json.loads(line)["level"]


def send_huge(url: str, method: str, path: str, declared: bool) -> bytes:
    """Send 300 MiB with no token, for as long as the server takes it; returns the beginning of its answer."""
    parts = urlsplit(url)
    length = f"Content-Length: {HUGE}" if declared else "Transfer-Encoding: chunked"
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
    piece = b" " * MIB if declared else b"%x\r\n" % MIB + b" " * MIB + b"\r\n"
    with closing(socket.create_connection((parts.hostname or "", parts.port or 0), 20)) as raw:
        raw.sendall(head.encode())
        with suppress(OSError):
            for _ in range(HUGE // MIB):
                raw.sendall(piece)
        with suppress(OSError):
            return raw.recv(200)
    return b""


def sent_until_answered(url: str, path: str, content: bytes) -> bytes:
    """Send a request without a token; returns the beginning of its answer, none where it came too late to be read."""
    parts = urlsplit(url)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    with closing(socket.create_connection((parts.hostname or "", parts.port or 0), 20)) as raw:
        with suppress(OSError):
            raw.sendall(head.encode() + content)
        with suppress(OSError):
            return raw.recv(200)
    return b""


def test_a_document_of_a_stranger_is_not_built(running: Running) -> None:
    """What is small to send and large to hold: an empty list takes three bytes of text, and 64 of memory."""
    httpx.get(f"{running.url}/readyz")
    before = running.peak_bytes()
    for path, size in [
        ("/v1/jobs/batch", 31 * MIB),
        ("/v1/agents/sync", 15 * MIB),
        ("/v1/agents/enroll", MIB - 9),
    ]:
        answer = sent_until_answered(running.url, path, b"[" + b"[]," * (size // 3 - 2) + b"[]]")
        assert answer == b"" or answer.split()[1] == b"401", (path, answer)
    grown = running.peak_bytes() - before
    print(f"peak memory grew by {grown / MIB:.1f} MiB, from {before / MIB:.0f} MiB, by documents of 47 MiB")
    assert grown < 24 * MIB
    assert httpx.get(f"{running.url}/readyz").status_code == 200


def test_a_huge_body_without_a_token_costs_no_memory(running: Running) -> None:
    httpx.get(f"{running.url}/readyz")
    before = running.peak_bytes()
    for method, path in [
        ("POST", "/v1/jobs"),
        ("POST", "/v1/agents/enroll"),
        ("POST", "/v1/agents/sync"),
        ("PUT", f"/v1/blobs/{'0' * 64}"),
        ("GET", "/livez"),
        ("POST", "/nothing"),
    ]:
        for declared in (True, False):
            answer = send_huge(running.url, method, path, declared)
            assert answer == b"" or answer.split()[1] in (b"200", b"401", b"404", b"413"), (path, answer)
    grown = running.peak_bytes() - before
    print(f"peak memory grew by {grown / MIB:.1f} MiB, from {before / MIB:.0f} MiB")
    assert grown < 48 * MIB
    assert httpx.get(f"{running.url}/readyz").status_code == 200
