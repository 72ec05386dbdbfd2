"""Commands through the whole product: `tinyfleet run` and what goes with it, against a real server and real agents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.client import Client
from tests.whole import ROOT, Fleet, running_fleet, until

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server with one node."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as running:
        running.start_agent("tiny1")
        yield running


@pytest.fixture
def client(fleet: Fleet) -> Iterator[Client]:
    """The administrator."""
    with fleet.client() as connected:
        yield connected


Start = Callable[..., subprocess.Popen[bytes]]
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def start(fleet: Fleet, tmp_path: Path) -> Iterator[Start]:
    """Start the command line tool in a folder of this test's own."""
    environ = {**os.environ, "TINYFLEET_URL": fleet.url, "TINYFLEET_TOKEN": fleet.token}
    environ |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "fleet.command", *arguments],
                cwd=tmp_path,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def run(start: Start) -> Run:
    """Run the command line tool to its end."""

    def to_its_end(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        process = start(*arguments)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return to_its_end


def test_run_prints_what_the_command_prints_and_exits_as_it_does(run: Run) -> None:
    done = run("run", "--", "sh", "-c", "printf 'raw\\377out'; echo err >&2; exit 7")
    assert done.returncode == 7
    assert done.stdout == b"raw\xffout"
    assert b"err\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--", "true"), 0),
        (("--", "sh", "-c", "kill -KILL $$"), 128 + signal.SIGKILL),
        (("--", "no-such-program"), 127),
        (("--timeout", "1", "--", "sleep", "600"), 124),
    ],
    ids=["success", "signal", "missing", "timeout"],
)
def test_every_end_has_its_exit_status(run: Run, arguments: tuple[str, ...], status: int) -> None:
    assert run("run", *arguments).returncode == status


def test_files_variables_and_artifacts_go_there_and_back(run: Run, tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text("#!/bin/sh\nmkdir -p out/deep\necho $GREETING > out/deep/a.txt\n")
    (tmp_path / "train.sh").chmod(0o755)
    options = ("--file", "train.sh", "-e", "GREETING=hello", "-a", "out/**", "--output", "got")
    done = run("run", *options, "--", "./train.sh")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got" / "out" / "deep" / "a.txt").read_text() == "hello\n"


def test_a_scripts_job_is_json_for_scripts_and_its_artifacts_and_log_are_read_later(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "job.sh").write_text("echo said; echo 1 > artifacts/one.txt; echo 2 > artifacts/two.txt")
    job = json.loads(run("run", "--json", "--script", "job.sh").stdout)
    assert (job["state"], job["result"]) == ("succeeded", {"exit_status": 0, "signal": None})
    number = str(job["id"])
    assert run("logs", number).stdout == b"said\n"
    assert json.loads(run("artifacts", number, "--json").stdout)["artifacts"] == job["artifacts"]
    assert run("artifacts", number, "two.txt", "-o", "got").returncode == 0
    assert [path.name for path in (tmp_path / "got").iterdir()] == ["two.txt"]
    refused = run("artifacts", number, "three.txt")
    assert refused.returncode == 2
    assert b"there is: one.txt, two.txt" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_an_interrupt_cancels_the_command_within_two_seconds(
    start: Start, client: Client, number: signal.Signals
) -> None:
    process = start(
        "run", "--name", f"endless-{number}", "--", "sh", "-c", "trap '' TERM; while :; do sleep 9; done"
    )
    [job] = until(
        lambda: [
            each
            for each in client.jobs(state="running").items
            if each.name == f"endless-{number}" and client.attempts(each.id)[0].progress
        ],
        "it runs",
    )
    asked = time.monotonic()
    process.send_signal(number)
    until(lambda: client.job(job.id).state == "cancelled", "it is cancelled", within_s=10)
    assert time.monotonic() - asked < 2.0
    assert process.wait(20) == 128 + number


def test_a_log_is_followed_while_it_grows(start: Start, client: Client) -> None:
    script = "echo first; while [ ! -e gate ]; do sleep 0.1; done; echo last"
    job = client.run_command(script=script)
    process = start("logs", "-f", str(job.id))
    assert process.stdout is not None
    assert process.stdout.readline() == b"first\n"
    client.cancel_job(job.id)
    assert process.wait(20) == 0


def test_a_file_that_was_not_uploaded_is_refused_by_name(run: Run, client: Client, tmp_path: Path) -> None:
    done = run("run", "--file", "nowhere.txt", "--", "true")
    assert done.returncode == 2
    assert b"there is no file nowhere.txt" in done.stderr


def test_exec_runs_inside_a_job_and_ends_as_its_command_does(run: Run, client: Client, fleet: Fleet) -> None:
    job = client.run_command(script="echo mine > own.txt; while [ ! -e gate ]; do sleep 0.1; done; cat gate")
    fleet.wait_job(job.id, "running")
    done = run("exec", str(job.id), "--", "sh", "-c", "cat own.txt; echo opened > gate; exit 5")
    assert (done.returncode, done.stdout) == (5, b"mine\n"), done.stderr
    fleet.wait_job(job.id, "succeeded")
    assert run("logs", str(job.id)).stdout == b"opened\n"
    refused = run("exec", str(job.id), "--", "true")
    assert refused.returncode == 3
    assert b"cannot exec" in refused.stderr


def test_secrets_reach_the_command_and_no_log(run: Run, client: Client, fleet: Fleet) -> None:
    client.put_secret("deploy", "canary-4711-canary")
    done = run("run", "-s", "TOKEN=deploy", "--", "sh", "-c", "echo $TOKEN; printenv TOKEN | rev")
    assert (done.returncode, done.stdout) == (0, b"[secret]\n" + b"canary-4711-canary"[::-1] + b"\n")
    written = [
        path for path in fleet.folder.rglob("*") if path.is_file() and b"canary-4711" in path.read_bytes()
    ]
    assert written == []


def test_a_data_set_is_pushed_once_and_draws_the_next_command_to_the_node_that_keeps_it(
    run: Run, client: Client, fleet: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "deep" / "one.txt").write_text("a picture\n")
    address = run("data", "push", "images").stdout.decode().strip()
    assert json.loads(run("data", "show", address, "--json").stdout)["files"][0]["path"] == "deep/one.txt"
    fleet.start_agent("tiny0")
    script = ("--data", f"images={address}", "--", "cat", "data/images/deep/one.txt")
    first = run("run", "--json", "--node", "tiny0", *script)
    assert json.loads(first.stdout)["ran_on"] == "tiny0"
    assert b"a picture\n" in first.stderr
    until(
        lambda: address in client.node(_id(client, "tiny0")).data_sets,
        "the node says that it keeps it",
    )
    for _ in range(3):
        assert json.loads(run("run", "--json", *script).stdout)["ran_on"] == "tiny0"
    refused = run("run", "--data", f"images={'0' * 64}", "--", "true")
    assert refused.returncode == 3
    assert b"spec.data.images" in refused.stderr


def _id(client: Client, name: str) -> int:
    return next(node.id for node in client.nodes().items if node.name == name)


def test_a_command_that_asks_for_what_no_node_offers_is_told_what_is_missing(
    client: Client, fleet: Fleet
) -> None:
    job = client.run_command(["true"], network=True)
    reason = until(lambda: client.job(job.id).reason, "it is looked at")
    assert (
        "does not offer the network to commands (its operator starts the agent with --job-network)" in reason
    )
    client.cancel_job(job.id)
