"""The server as a process: how it starts, what it says, and how it ends."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from api.cli import app as verbs
from api.deps import Parts
from api.listening import listening_on
from api.settings import Settings
from fleet.client import Client
from fleet.db import now
from fleet.errors import InvalidSpec
from fleet.loopback import is_loopback
from fleet.tenants import mint
from tests.api.agent import Agent
from tests.api.conftest import serving
from tests.whole import ROOT, until

pytestmark = pytest.mark.slow  # every test starts a server

ENDS_WITHIN_S = 4.0  # about 2 s on a quiet machine


@contextmanager
def server(data: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """`python -m api` on a free port, and its administrator's client; killed at the end if it still runs."""
    ready = data.parent / "ready.json"
    ready.unlink(missing_ok=True)
    arguments = ["--port", "0", "--data", str(data), "--ready-file", str(ready), *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "api", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until(lambda: ready.exists() or process.poll() is not None, "the server listens")
        found = json.loads(ready.read_text())
        token = Path(found["admin_token_file"]).read_text().strip()
        with Client(found["url"], token, retry_delays_s=()) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], how: signal.Signals) -> str:
    """Tell the server to end; what it has printed."""
    process.send_signal(how)
    printed, _ = process.communicate(timeout=30)
    return printed


def test_the_first_start_says_where_the_admin_token_is_and_keeps_it_private(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with server(data) as (process, client):
        assert client.whoami().role == "admin"
        printed = ended(process, signal.SIGTERM)
    token_file = data / "admin-token"
    secret = token_file.read_text().strip()
    assert f"kept in {token_file}" in printed
    assert secret not in printed
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert process.returncode == 0
    with server(data) as (process, client):
        assert client.whoami().role == "admin"
        assert secret not in ended(process, signal.SIGINT)
    assert process.returncode == 0


def test_a_server_that_listens_collects_no_garbage_from_what_is_made_for_good(tmp_path: Path) -> None:
    script = (
        "import gc, os, signal, sys\n"
        "from pathlib import Path\n"
        "from api.server import serve\n"
        "from api.settings import Settings\n"
        "def say(line):\n"
        "    if line.startswith('tinyfleet listens'):\n"
        "        print(gc.get_freeze_count(), len(gc.get_objects()), sys.getswitchinterval())\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "serve(Settings.from_env({'TINYFLEET_DATA': sys.argv[1], 'TINYFLEET_PORT': '0'}), say)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "data")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    frozen, others, turn_s = map(float, done.stdout.split())
    assert frozen > 100_000
    assert others < frozen / 20
    assert turn_s < 0.001  # a scrape waits for so long where another thread computes


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "server.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        outcome = CliRunner().invoke(verbs, ["serve", "--port", "0", "--data", str(tmp_path)])
    assert outcome.exit_code == 2
    assert "another server" in outcome.output


def test_a_busy_port_is_said_before_anything_is_made_or_printed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        outcome = CliRunner().invoke(verbs, ["serve", "--port", port, "--data", str(tmp_path / "data")])
    assert outcome.exit_code == 2
    assert f"--port: {port} is taken" in outcome.output
    assert "tfu_" not in outcome.output
    assert not (tmp_path / "data").exists()


def test_an_address_that_is_not_here_is_refused(tmp_path: Path) -> None:
    options = [
        "serve",
        "--host",
        "192.0.2.1",
        "--behind-tls-proxy",
        "--port",
        "0",
        "--data",
        str(tmp_path / "data"),
    ]
    outcome = CliRunner().invoke(verbs, options)
    assert outcome.exit_code == 2
    assert "--host: '192.0.2.1' is no address of this machine" in outcome.output


def test_what_is_answered_is_sent_at_once() -> None:
    """Else the body waits for the client to acknowledge the head: 40 ms for each request of a kept connection."""

    async def without_delay() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listening_on("127.0.0.1", 0) as [listener]:
            server = await asyncio.start_server(serve, sock=listener)
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            found = await accepted
            assert await reader.read() == b""
            writer.close()
            server.close()
            await server.wait_closed()
        return found

    assert asyncio.run(without_delay()) != 0


def test_every_address_of_a_name_has_the_same_port() -> None:
    with listening_on("localhost", 0) as sockets:
        assert len({each.getsockname()[1] for each in sockets}) == 1
        with socket.create_connection(sockets[0].getsockname()[:2], timeout=5):
            pass


@pytest.mark.parametrize("option", ["--data", "--ready-file"])
def test_a_path_that_cannot_be_used_names_its_option(tmp_path: Path, option: str) -> None:
    given = {"--data": str(tmp_path / "data"), option: "/dev/null/x"}
    outcome = CliRunner().invoke(verbs, ["serve", "--port", "0", *itertools.chain(*given.items())])
    assert outcome.exit_code == 2
    assert f"{option}: /dev/null/x" in outcome.output
    assert not (tmp_path / "data").exists()


@pytest.mark.real
def test_a_server_with_parked_polls_and_streams_ends_soon(tmp_path: Path) -> None:
    with (
        server(tmp_path / "data") as (process, client),
        httpx.Client(base_url=client.base_url, timeout=60) as http,
        ThreadPoolExecutor(1) as pool,
    ):
        agent = Agent.enrolled(http, client.join_token().secret)
        before = client.node(agent.node_id).last_seen_at
        headers = {"Authorization": f"Bearer {(tmp_path / 'data' / 'admin-token').read_text().strip()}"}
        with http.stream("GET", "/v1/events/stream", headers=headers) as stream:
            next(stream.iter_lines())
            poll = pool.submit(agent.sync, wait_s=50)
            until(lambda: client.node(agent.node_id).last_seen_at != before, "the poll has arrived")
            told = time.monotonic()
            printed = ended(process, signal.SIGTERM)
            took_s = time.monotonic() - told
        assert poll.result(20).attempts == []
    assert process.returncode == 0, printed
    assert took_s < ENDS_WITHIN_S
    assert "Traceback" not in printed


@pytest.mark.real
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_body_that_is_still_arriving_is_answered_when_the_server_ends(
    tmp_path: Path, how: signal.Signals
) -> None:
    with server(tmp_path / "data") as (process, client):
        url = httpx.URL(client.base_url)
        secret = (tmp_path / "data" / "admin-token").read_text().strip()
        with socket.create_connection((url.host, url.port or 0), timeout=20) as sender:
            sender.sendall(unfinished(f"Authorization: Bearer {secret}", "Expect: 100-continue"))
            assert b" 100 " in sender.recv(1000)  # the server reads
            printed = ended(process, how)
            status, *lines = b"".join(iter(lambda: sender.recv(65536), b"")).decode().splitlines()
    assert " 503 " in status
    assert "content-type: application/problem+json" in lines
    assert "the server is stopping" in lines[-1]
    assert process.returncode == 0
    assert "Traceback" not in printed
    assert "Cancel" not in printed


def unfinished(*headers: str) -> bytes:
    """A submission of a job whose body never comes to its end."""
    about = ("Host: 127.0.0.1", "Content-Type: application/json", "Content-Length: 1000", *headers)
    return "\r\n".join(["POST /v1/jobs HTTP/1.1", *about, "", '{"spec": ']).encode()


def test_the_controllers_in_the_server_wake_a_poll_that_has_work(parts: Parts) -> None:
    with serving(parts, run_controllers=True) as found, httpx.Client(base_url=found.url) as http:
        with parts.write() as session:
            secret = mint(session, name="root", role="admin", now=now(session))[1]
        with Client(found.url, secret) as client:
            agent = Agent.enrolled(http, client.join_token().secret)
            job = client.submit_job({"kind": "noop"})
            [attempt] = agent.sync(wait_s=20).attempts
    assert attempt.job_id == job.id


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fleet.example", ""])
def test_a_network_is_not_listened_on_by_accident(tmp_path: Path, host: str) -> None:
    outcome = CliRunner().invoke(
        verbs, ["serve", "--host", host, "--port", "0", "--data", str(tmp_path / "data")]
    )
    assert outcome.exit_code == 2
    assert "--behind-tls-proxy" in outcome.output
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("127.0.0.1.example", False),
    ],
)
def test_loopback_is_told_by_the_address_alone(host: str, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize("environ", [{"TINYFLEET_PORT": "http"}, {"TINYFLEET_PORT": "70000"}])
def test_a_setting_that_cannot_be_names_itself(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidSpec) as refused:
        Settings.from_env(environ)
    assert refused.value.field == "TINYFLEET_PORT"


def test_options_win_over_the_environment(tmp_path: Path) -> None:
    read = Settings.from_env({"TINYFLEET_HOST": "::1", "TINYFLEET_DATA": str(tmp_path)})
    assert (read.host, read.port, read.fleet.data) == ("::1", 8000, tmp_path)
