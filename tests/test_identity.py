"""Identity as processes see it: TLS with a pin, clones, rotation beside a running agent, racers for one token."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from fleet import authority
from fleet.agents.keys import KEY, Key, Signer
from fleet.client import Client
from tests.signing import joining
from tests.whole import ROOT, TIMINGS, Fleet, Process, running_fleet, start, until

pytestmark = pytest.mark.slow


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A server as a process of its own, and whatever agents a test starts."""
    with running_fleet(tmp_path) as found:
        yield found


def contested(fleet: Fleet, name: str) -> bool:
    """Whether the server has seen two live agents of that node."""
    node = fleet.node(name)
    return node is not None and node.contested


def test_of_sixteen_who_join_with_one_token_at_once_exactly_one_does(fleet: Fleet) -> None:
    with fleet.client() as client:
        secret = client.join_token().secret
    ready = threading.Barrier(16)

    def join(number: int) -> int:
        body = joining(secret, f"racer{number}", Key.made()).model_dump(mode="json")
        with httpx.Client(timeout=60) as http:
            ready.wait()
            headers = {"Authorization": f"Bearer {secret}"}
            return http.post(f"{fleet.url}/v1/agents/enroll", json=body, headers=headers).status_code

    with ThreadPoolExecutor(16) as pool:
        answers = sorted(pool.map(join, range(16)))
    assert answers == [201] + [403] * 15
    with fleet.client() as client:
        assert len(client.nodes().items) == 1


def test_a_copy_of_a_state_folder_stops_both_agents_until_an_operator_decides(fleet: Fleet) -> None:
    node = fleet.start_agent("tiny1")
    copy = fleet.folder / "copy"
    shutil.copytree(fleet.folder / "tiny1", copy, ignore=shutil.ignore_patterns("hint", "*.sock", "zygote*"))
    options = ["--server", fleet.url, "--state", str(copy), "--name", "tiny1"]
    fleet.agents["copy"] = start(["fleet.agents", *options], fleet.folder / "copy.log", {})
    until(lambda: contested(fleet, "tiny1"), "the clone is noticed")
    with fleet.client() as client:
        assert "node.contested" in [event.kind for event in client.events(after=0, limit=200).items]
        assert client.node(node.id).trust == "tainted"
        job = client.submit_job({"kind": "noop"})
        until(lambda: "two live agents" in client.job(job.id).reason, "nothing is placed there")
        until(lambda: client.node(node.id).contact != "online", "neither is heard any more")
        fleet.agents.pop("copy").stop()
        client.readmit(node.id)
        copied = Signer(copy).key.id
        until(lambda: Signer(fleet.folder / "tiny1").key.id != copied, "the node has a new key", 60.0)
        done = until(
            lambda: (found := client.job(job.id)).state == "succeeded" and found, "it works again", 60.0
        )
    assert done.outcome == "succeeded"


def test_a_key_is_rotated_beside_the_running_agent(fleet: Fleet) -> None:
    fleet.start_agent("tiny1")
    state = fleet.folder / "tiny1"
    before = (state / KEY).read_bytes()
    command = [sys.executable, "-m", "fleet.agents", "node", "rotate-key", "--state", str(state)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (state / KEY).read_bytes() != before
    assert (state / KEY).stat().st_mode & 0o777 == 0o600
    assert Signer(state).key.id in done.stdout
    fleet.wait_job(_noop(fleet), "succeeded")
    assert "refuses" not in (fleet.folder / "tiny1.log").read_text()


def _noop(fleet: Fleet) -> int:
    with fleet.client() as client:
        return client.submit_job({"kind": "noop"}).id


# -------------------------------------------------------------------------------------------------- TLS


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Fleet]:
    """A server that speaks TLS, with a certificate that a lab's authority issued."""
    lab = authority.init(tmp_path / "ca", "the lab", authority.PERMITTED)
    cert, key = tmp_path / "server.pem", tmp_path / "server.key"
    authority.issue(lab, ["127.0.0.1", "localhost"], cert, key)
    fleet, ready = Fleet(tmp_path), tmp_path / "ready.json"
    files = ["--ready-file", str(ready), "--tls-cert", str(cert), "--tls-key", str(key)]
    options = ["--port", "0", "--data", str(tmp_path / "data"), *files]
    fleet.server = start(["api", *options], tmp_path / "server.log", {**os.environ, **TIMINGS})
    try:
        until(ready.exists, "the server listens")
        fleet.url = json.loads(ready.read_text())["url"]
        yield fleet
    finally:
        fleet.stop()


def agent(fleet: Fleet, name: str, *options: str) -> Process:
    """Start an agent with a join token of its own and these options."""
    join = fleet.folder / f"{name}.join"
    with Client(fleet.url, fleet.token, ca_file=fleet.folder / "ca" / "ca.pem") as client:
        join.write_text(client.join_token().secret)
    told = ["--server", fleet.url, "--state", str(fleet.folder / name), "--name", name]
    command = ["fleet.agents", *told, "--join-token-file", str(join), *options]
    fleet.agents[name] = start(command, fleet.folder / f"{name}.log", {})
    return fleet.agents[name]


def test_an_agent_joins_over_tls_with_the_pin_and_works(secure: Fleet) -> None:
    pinned = authority.load(secure.folder / "ca").fingerprint
    agent(secure, "tiny1", "--ca-sha256", pinned)
    with Client(secure.url, secure.token, ca_file=secure.folder / "ca" / "ca.pem") as client:
        until(lambda: [node.contact for node in client.nodes().items] == ["online"], "the node is online")
        job = client.submit_job({"kind": "noop"})
        until(lambda: client.job(job.id).state == "succeeded", "the job has run")
        process = secure.agents["tiny1"]
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(20) == 0
        told = ["--server", secure.url, "--state", str(secure.folder / "tiny1"), "--name", "tiny1"]
        secure.agents["again"] = start(
            ["fleet.agents", *told], secure.folder / "again.log", {}
        )  # kept in the state
        again = client.submit_job({"kind": "noop"})
        until(lambda: client.job(again.id).state == "succeeded", "a job has run after the restart")


def test_a_wrong_pin_ends_the_agent_before_it_has_shown_its_token(secure: Fleet) -> None:
    process = agent(secure, "tiny1", "--ca-sha256", "0" * 64)
    assert process.popen.wait(30) == 2
    assert "no certificate with the pinned sha256" in process.log.read_text()
    with Client(secure.url, secure.token, ca_file=secure.folder / "ca" / "ca.pem") as client:
        assert client.nodes().items == []


def test_without_a_pin_a_labs_certificate_is_not_believed(secure: Fleet) -> None:
    process = agent(secure, "tiny1")
    until(
        lambda: "CERTIFICATE_VERIFY_FAILED" in process.log.read_text(), "the agent says why it does not join"
    )
    assert process.popen.poll() is None  # it goes on trying: a certificate may be mended
    secret = (secure.folder / "tiny1.join").read_text()
    written = [path.read_text() for path in secure.folder.glob("*.log")]
    assert not any(secret in text for text in written)


def test_the_private_key_is_nowhere_but_in_its_file(fleet: Fleet) -> None:
    fleet.start_agent("tiny1")
    fleet.wait_job(_noop(fleet), "succeeded")
    secret = (fleet.folder / "tiny1" / KEY).read_bytes()
    body = secret.splitlines()[1]
    raw = _private_bytes(secret)
    for path in fleet.folder.rglob("*"):
        if path.is_file() and path != fleet.folder / "tiny1" / KEY:
            content = path.read_bytes()
            assert body not in content, path
            assert raw not in content, path
            assert raw.hex().encode() not in content, path


def _private_bytes(pem: bytes) -> bytes:
    """The 32 bytes of an ed25519 key in PKCS #8 PEM: the last ones."""
    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))[-32:]


def test_a_state_folder_of_an_earlier_version_ends_the_agent_with_what_to_do(fleet: Fleet) -> None:
    state = fleet.folder / "old"
    state.mkdir(mode=0o700)
    (state / "identity.json").write_text(
        '{"node_id": 1, "name": "old", "server": "http://127.0.0.1:1", "token": "tfn_canary"}'
    )
    process = start(
        ["fleet.agents", "--server", fleet.url, "--state", str(state)], fleet.folder / "old.log", {}
    )
    assert process.popen.wait(30) == 2
    assert "join again with a new join token" in process.log.read_text()
    assert "tfn_canary" not in process.log.read_text()
