"""The `tinyfleet` command against a real server: what it prints where, and what it exits with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.orm import Session, sessionmaker
from typer.main import get_group

from fleet import cli, command, db
from fleet.agents.keys import Key
from fleet.blobs import Blobs
from fleet.cli import connection
from fleet.client import Client
from fleet.settings import Settings
from tests.fleet.acting import Agent, gpu_inventory
from tests.fleet.commanding import Cli, runner
from tests.fleet.for_scripts import FOR_SCRIPTS
from tests.serving import Served, serving
from tests.signing import joining
from tests.sshkeys import public_key
from tests.whole import ROOT

pytestmark = pytest.mark.timeout(40)  # a made-up agent that fails would leave the command waiting


@pytest.fixture
def served(settings: Settings, admin_token: str) -> Iterator[Served]:
    """A server with its controllers."""
    with serving(settings, admin_token) as found:
        yield found


@pytest.fixture
def run(served: Served, tmp_path: Path) -> Cli:
    """Run the command with the server's address and token in its environment."""
    return runner({"TINYFLEET_URL": served.url, "TINYFLEET_TOKEN": served.token, "HOME": str(tmp_path)})


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    """The SDK beside the command."""
    with Client(served.url, served.token) as sdk:
        yield sdk


@pytest.fixture
def agent(
    served: Served, sessions: sessionmaker[Session], blobs: Blobs, enroll: Callable[..., int]
) -> Iterator[Agent]:
    """A node whose agent takes all work and makes its results up."""
    acted = Agent(sessions, blobs, enroll("tiny1"))
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            with db.reading(sessions) as reader:
                now = db.now(reader)
            acted.sync(now)
            acted.work(now)

    thread = threading.Thread(target=work, name="agent")
    thread.start()
    yield acted
    stop.set()
    thread.join()


# -------------------------------------------------------------------------------- finding the server


def test_an_option_goes_before_the_environment_and_that_before_the_folder(tmp_path: Path) -> None:
    config = tmp_path / ".config" / "tinyfleet"
    config.mkdir(parents=True)
    (config / "url").write_text("https://folder:1\n")
    (config / "token").write_text("tfu_folder\n")
    given = tmp_path / "given"
    given.write_text("tfu_given\n")
    environ = {"HOME": str(tmp_path)}
    assert connection.address(None, None, environ) == connection.Address("https://folder:1", "tfu_folder")
    assert connection.address(None, None, {**environ, "TINYFLEET_TOKEN": "tfu_env"}).token == "tfu_env"
    assert connection.address("https://option:2", given, environ) == connection.Address(
        "https://option:2", "tfu_given"
    )


def test_the_token_of_a_server_started_here_is_sent_to_this_machine_only(tmp_path: Path) -> None:
    (tmp_path / "admin-token").write_text("tfu_admin\n")
    environ = {"HOME": str(tmp_path / "home"), "TINYFLEET_DATA": str(tmp_path)}
    assert connection.address("http://127.0.0.1:8000", None, environ).token == "tfu_admin"
    with pytest.raises(connection.Usage, match="no token for https://example"):
        connection.address("https://example.org", None, environ)


def test_without_a_token_the_command_says_where_to_put_one(tmp_path: Path) -> None:
    result = runner({"HOME": str(tmp_path), "TINYFLEET_DATA": str(tmp_path)})("nodes", "list")
    assert result.exit_code == connection.EXIT_USAGE
    assert result.stdout == ""
    assert "TINYFLEET_TOKEN_FILE" in result.stderr


def test_a_server_that_does_not_answer_exits_4(tmp_path: Path) -> None:
    environ = {"TINYFLEET_URL": "http://127.0.0.1:9", "TINYFLEET_TOKEN": "tfu_x", "HOME": str(tmp_path)}
    result = runner(environ)("nodes", "list", "--json")
    assert result.exit_code == connection.EXIT_UNREACHABLE
    assert "tinyfleet serve" in result.stderr


def test_a_token_that_is_not_known_exits_3(served: Served, tmp_path: Path) -> None:
    result = runner({"TINYFLEET_URL": served.url, "TINYFLEET_TOKEN": "tfu_x", "HOME": str(tmp_path)})(
        "whoami"
    )
    assert result.exit_code == connection.EXIT_REFUSED
    assert "401" in result.stderr


def test_a_refusal_names_each_field_and_what_is_wrong_with_it(run: Cli, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text('{"kind": "noop", "seconds": -1, "colour": "red"}')
    result = run("jobs", "submit", "--spec", str(spec))
    assert result.exit_code == connection.EXIT_REFUSED
    assert "seconds: " in result.stderr
    assert "colour: unknown field" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jobs", "submit", "gemm", "512,five"], "whole numbers with commas"),
        (["jobs", "submit", "conv", "3,3"], "there are gemm, reduce, copy, elementwise"),
        (["searches", "run", "gemm"], "gemm needs a shape"),
        (["jobs", "submit", "--spec", "/nowhere.json"], "/nowhere.json"),
        (["nodes", "show", "tiny9"], "there is no node 'tiny9'"),
        (["access", "request", "--reason", "why"], "give --pool or --node, one of them"),
        (["keys", "add", "/nowhere.pub"], "it cannot be read as text; give the .pub file of your key"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(run: Cli, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == connection.EXIT_USAGE
    assert said in result.stderr


@pytest.mark.parametrize("url", ["banana", "ftp://fleet.example", "http://", "http://[::1", "http://a:x", ""])
def test_what_is_no_url_is_a_usage_error(tmp_path: Path, url: str) -> None:
    environ = {"TINYFLEET_TOKEN": "tfu_x", "HOME": str(tmp_path)}
    result = runner(environ)("nodes", "list", "--url", url or "http:///x")
    assert result.exit_code == connection.EXIT_USAGE
    assert "is not an http:// or https:// URL" in result.stderr
    from_environment = runner({**environ, "TINYFLEET_URL": url or "/"})("whoami")
    assert from_environment.exit_code == connection.EXIT_USAGE


def test_a_token_that_cannot_be_one_is_a_usage_error(tmp_path: Path) -> None:
    environ = {"TINYFLEET_URL": "http://127.0.0.1:9", "TINYFLEET_TOKEN": "tfü\nx", "HOME": str(tmp_path)}
    result = runner(environ)("whoami")
    assert result.exit_code == connection.EXIT_USAGE
    assert "tfü" not in result.stderr


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "-1", "0", "soon"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs", "submit", "gemm", "8,8,8", "--time"],
        ["jobs", "submit", "noop", "--timeout"],
        ["jobs", "submit", "noop", "--wait-timeout"],
        ["searches", "run", "gemm", "8,8,8", "--budget"],
        ["searches", "run", "gemm", "8,8,8", "--wait-timeout"],
        ["join-token", "create", "--ttl"],
    ],
)
def test_seconds_that_cannot_be_are_a_usage_error_naming_the_option(arguments: list[str], value: str) -> None:
    result = runner({})(*arguments, value)
    assert result.exit_code == connection.EXIT_USAGE
    assert arguments[-1] in plain(result.stderr)


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_a_noop_takes_no_time_or_some(run: Cli, value: str) -> None:
    assert run("jobs", "submit", "noop", "--seconds", "0").exit_code == 0
    refused = run("jobs", "submit", "noop", "--seconds", value)
    assert refused.exit_code == connection.EXIT_USAGE
    assert "--seconds" in plain(refused.stderr)


def plain(shown: str) -> str:
    """Without the colours in which an option's name may be cut in two."""
    return re.sub(r"\x1b\[[0-9;]*m", "", shown)


OPTS = '[["UPCAST", "out", 0, 4, null]]'


def test_a_schedule_is_a_name_or_json_here_or_in_a_file(run: Cli, tmp_path: Path) -> None:
    file = tmp_path / "schedule"
    file.write_text(OPTS)
    given = [
        json.loads(run("jobs", "submit", "gemm", "8,8,8", "--schedule", each, "--json").stdout)["spec"]
        for each in ("tuned", "none", OPTS, str(file))
    ]
    opts = json.loads(OPTS)
    assert [spec["schedule"] for spec in given] == ["tuned", "none", opts, opts]


@pytest.mark.parametrize("value", ["fastest", "[1,", "[NaN]", "[1e999]", "/nowhere.json", "", "[" * 100_000])
def test_a_schedule_that_is_none_is_a_usage_error(run: Cli, value: str) -> None:
    result = run("jobs", "submit", "gemm", "8,8,8", "--schedule", value)
    assert result.exit_code == connection.EXIT_USAGE
    assert "--schedule" in result.stderr


@pytest.mark.parametrize("content", ["[1]", "3", '{"kind": "noop", "seconds": NaN}', "{", "\xff"])
def test_a_spec_that_is_no_object_is_a_usage_error(run: Cli, tmp_path: Path, content: str) -> None:
    file = tmp_path / "spec.json"
    file.write_bytes(content.encode("latin-1"))
    result = run("jobs", "submit", "--spec", str(file))
    assert result.exit_code == connection.EXIT_USAGE
    assert "--spec" in result.stderr


# ---------------------------------------------------------------------------------------------- verbs


def test_an_empty_list_is_empty_json_and_a_hint_for_people(run: Cli) -> None:
    assert json.loads(run("nodes", "list", "--json").stdout) == {"items": [], "next": None}
    shown = run("nodes", "list")
    assert shown.stdout == ""
    assert "join-token" in shown.stderr


def test_a_node_is_found_by_name_and_kept_free_of_work(run: Cli, agent: Agent) -> None:
    assert "Acme One" in run("nodes", "show", "tiny1").stdout
    assert json.loads(run("nodes", "cordon", "tiny1", "--json").stdout)["cordoned"] is True
    assert "cordoned" in run("nodes", "list").stdout
    assert json.loads(run("nodes", "uncordon", str(agent.node_id), "--json").stdout)["cordoned"] is False


def test_a_job_that_succeeds_is_waited_for(run: Cli, agent: Agent) -> None:
    result = run("jobs", "submit", "noop", "--name", "first", "--node", "tiny1", "--wait", "--json")
    assert result.exit_code == 0, result.stderr
    job = json.loads(result.stdout)
    assert (job["name"], job["state"]) == ("first", "succeeded")
    assert "first" in run("jobs", "list").stdout
    assert "tiny1" in run("jobs", "show", str(job["id"]), "--wait").stdout


def test_a_job_that_is_cancelled_while_it_is_waited_for_exits_1(
    run: Cli, served: Served, client: Client
) -> None:
    job = client.submit_job({"kind": "noop"})
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(run("jobs", "show", str(job.id), "--wait")))
    waiting.start()
    cancelled = run_in_own_process(served, "jobs", "cancel", str(job.id))
    waiting.join(30)
    assert cancelled == 0
    assert found[0].exit_code == connection.EXIT_FAILED
    assert f"job {job.id} cancelled" in found[0].stderr


def run_in_own_process(served: Served, *arguments: str) -> int:
    """The command as a script runs it; the runner in this process swaps sys.stdout and is not for two at once."""
    environ = {**os.environ, "TINYFLEET_URL": served.url, "TINYFLEET_TOKEN": served.token}
    finished = subprocess.run(
        [sys.executable, "-m", "fleet.command", *arguments], env=environ, capture_output=True, check=False
    )
    return finished.returncode


@pytest.mark.slow
def test_a_job_that_no_node_can_run_says_why_and_is_left_after_the_limit(run: Cli) -> None:
    result = run("jobs", "submit", "noop", "--wait-timeout", "2", "--json")
    assert result.exit_code == connection.EXIT_UNFINISHED
    job = json.loads(result.stdout)
    assert (job["state"], job["reason"] in result.stderr) == ("queued", True)
    assert job["reason"]
    assert f"tinyfleet jobs show {job['id']}" in result.stderr


def test_a_search_is_either_left_or_waited_for(run: Cli) -> None:
    result = run("searches", "run", "gemm", "8,8,8", "--detach", "--wait-timeout", "1")
    assert result.exit_code == connection.EXIT_USAGE
    assert run("searches", "list").stdout == ""


def test_the_same_key_submits_one_job(run: Cli) -> None:
    first, second = (run("jobs", "submit", "noop", "--key", "k1", "--json") for _ in range(2))
    assert json.loads(first.stdout)["id"] == json.loads(second.stdout)["id"]
    other = run("jobs", "submit", "noop", "--seconds", "2", "--key", "k1")
    assert other.exit_code == connection.EXIT_REFUSED


@pytest.mark.slow
def test_a_search_runs_to_its_end_and_its_kernel_answers_the_second_one(run: Cli, agent: Agent) -> None:
    first = run("searches", "run", "gemm", "64,64,64", "--json")
    assert first.exit_code == 0, first.stderr
    assert json.loads(first.stdout)["state"] == "done"
    again = json.loads(run("searches", "run", "gemm", "64x64x64", "--json").stdout)
    assert (again["source"], again["state"]) == ("cache", "done")
    shown = run("searches", "show", "1")
    assert "UPCAST(out.0, 5)" in shown.stdout
    assert "cache" in run("searches", "list").stdout
    assert json.loads(run("searches", "show", "1", "--json").stdout)["candidates"]
    assert "gemm 64×64×64" in run("kernels", "list").stdout
    assert "tolerance" in run("kernels", "show", "1").stdout
    assert run("kernels", "show", "1", "--source").stdout.startswith("// ")


def test_a_kernel_that_is_not_there_is_refused_and_an_empty_quarantine_is_said(run: Cli) -> None:
    assert run("kernels", "show", "2").exit_code == connection.EXIT_REFUSED
    assert "Nothing" in run("kernels", "quarantined").stderr


def test_a_search_can_be_left_and_cancelled(run: Cli) -> None:
    begun = json.loads(run("searches", "run", "gemm", "64,64,64", "--detach", "--json").stdout)
    assert begun["state"] == "queued"
    assert "cancelled" in run("searches", "cancel", str(begun["id"])).stdout


def test_a_secret_goes_to_a_file_that_only_its_owner_reads(run: Cli, tmp_path: Path) -> None:
    path = tmp_path / "join"
    result = run("join-token", "create", "-o", str(path))
    assert result.exit_code == 0
    assert path.read_text().startswith("tfj_")
    assert path.stat().st_mode & 0o777 == 0o600
    assert "tfj_" not in result.output
    assert run("join-token", "create", "-o", str(path)).exit_code == connection.EXIT_USAGE


def test_a_token_is_made_listed_and_revoked(run: Cli) -> None:
    made = json.loads(run("tokens", "create", "reader", "--role", "viewer", "--json").stdout)
    assert made["secret"].startswith("tfu_")
    assert "reader" in run("tokens", "list").stdout
    assert made["secret"] not in run("tokens", "list").output
    assert run("tokens", "revoke", str(made["id"])).exit_code == 0
    assert "admin" in run("whoami").stdout


def test_a_log_is_printed_as_it_is(run: Cli, client: Client, agent: Agent) -> None:
    job = json.loads(run("jobs", "submit", "noop", "--wait", "--json").stdout)
    assert run("jobs", "logs", str(job["id"]), "--follow").exit_code == 0


# ------------------------------------------------------------------------------------------ for scripts

# Every verb of the client with arguments that it takes, in an order in which they work on a fleet with one node.


ELSEWHERE = {  # what needs more than a server: tested with it
    "keys import",  # a forge on the internet: tests/fleet/test_forges.py
    "ssh",  # a node that looks after logins: tests/test_logins.py
    "nodes bootstrap",  # another host: tests/fleet/test_bootstrap.py
    "access certificate",  # an SSH authority: tests/test_logins.py
}


def verbs_of_the_client() -> Iterator[tuple[str, Any]]:
    """Every verb that talks to a server, by its words."""
    for name, group in get_group(cli.app).commands.items():
        below = getattr(group, "commands", None)
        if below is None:
            yield name, group
        else:
            yield from ((f"{name} {verb}", each) for verb, each in below.items())


def test_every_verb_of_the_client_takes_json() -> None:
    options = {
        name: [opt for each in verb.params for opt in each.opts] for name, verb in verbs_of_the_client()
    }
    assert [name for name, opts in options.items() if "--json" not in opts] == []
    used = " / ".join(FOR_SCRIPTS)
    assert [name for name in options if name not in used and name not in ELSEWHERE] == []


def test_a_webhooks_address_comes_by_no_argument(run: Cli, client: Client, tmp_path: Path) -> None:
    """It is a secret, and arguments are everybody's to see."""
    address = "https://[2d00::1]/secret-path"
    (tmp_path / "address").write_text(f"{address}\n")
    made = [
        run("webhooks", "add", "by-file", "--address-file", str(tmp_path / "address")),
        run("webhooks", "add", "by-stdin", input=f"{address}\n"),
    ]
    assert [each.exit_code for each in made] == [0, 0], [each.output for each in made]
    assert {each.host for each in client.webhooks().items} == {"2d00::1"}
    refused = run("webhooks", "add", "chat", address)
    assert refused.exit_code == 2
    missing = run("webhooks", "add", "chat", "--address-file", str(tmp_path / "nothing"))
    assert (missing.exit_code, "No such file" in missing.output) == (2, True)


@pytest.mark.slow
@pytest.mark.timeout(300)  # a hundred commands, each a start of Python's
def test_every_verb_prints_one_json_document(
    run: Cli, client: Client, agent: Agent, tmp_path: Path, settings: Settings
) -> None:
    (settings.releases / "1.0.0").mkdir(parents=True)
    (settings.releases / "1.0.0" / "SHA256SUMS").write_text("")
    spec = tmp_path / "noop.json"
    spec.write_text('{"kind": "noop"}')
    batch = tmp_path / "batch.json"
    batch.write_text('[{"spec": {"kind": "noop"}}, {"spec": {"kind": "noop"}, "after_ok": [2]}]')
    public = tmp_path / "alice.pub"
    public.write_text(f"{public_key(1).line} alice@laptop")
    secret = client.join_token().secret
    asked = joining(secret, "never-seen", Key.made(), gpu_inventory(1)).model_dump(mode="json")
    bearer = {"Authorization": f"Bearer {secret}"}
    httpx.post(f"{client.base_url}/v1/agents/enroll", json=asked, headers=bearer).raise_for_status()
    printed = {}
    meant = {"NOOP.json": str(spec), "ALICE.pub": str(public), "BATCH.json": str(batch)}
    address = tmp_path / "address"
    address.write_text("https://[2d00::1]/x\n")
    meant["ADDRESS"] = str(address)
    small = tmp_path / "small.toml"
    small.write_text("gpus = 0\ncores = 1\n")
    meant["SMALL.toml"] = str(small)
    meant["DATA-SET"] = client.push_data(ROOT / "infra" / "systemd")
    for line in FOR_SCRIPTS:
        result = run(*(meant.get(word, word) for word in line.split()), "--json")
        assert result.exit_code == 0, (line, result.output)
        printed[line] = json.loads(result.stdout)
    assert printed["jobs logs 2"] == {"job_id": 2, "log": ""}
    with_source = printed["kernels show 1 --source"]
    assert with_source.pop("source").startswith("// ")
    assert with_source == printed["kernels show 1"]


def test_the_exit_codes_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = re.search(r"exit codes for scripts \((.*?)\)", readme.replace("\n", " "))
    assert said is not None
    codes = {int(code): why for code, why in re.findall(r"(\d) ([^,]+)", said[1])}
    assert codes == {
        0: "done",
        connection.EXIT_FAILED: "the job failed",
        connection.EXIT_USAGE: "usage",
        connection.EXIT_REFUSED: "refused",
        connection.EXIT_UNREACHABLE: "unreachable",
        connection.EXIT_UNFINISHED: "not ended within `--wait-timeout`",
    }
    assert re.findall(r"(\d) ", command.app.info.epilog or "") == [str(code) for code in sorted(codes)]
