"""Every verb of scheduling, through the command and through the SDK, against a real server, two real agents that run
what they are given, and simulated nodes with GPUs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fleet.client import ApiError, Client
from fleet.resources import Job
from fleet.simulation.boxes import BOXES
from fleet.simulation.crowd import Crowd, Wanted
from tests.fleet.commanding import Cli, runner
from tests.whole import Fleet, command_line, pids, running_fleet, until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]
LONG_S = 90.0  # a deadline for a machine whose cores are all busy
FINAL = ("succeeded", "failed", "cancelled")
LINUX = ["-r", "label=kind=real"]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two agents of this machine, which are labelled so, and three nodes of eight simulated GPUs each."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as running:
        for name in ("tiny1", "tiny2"):
            node = running.start_agent(name)
            with running.client() as client:
                client.label_node(node.id, {"kind": "real"})
        crowd = Crowd(Wanted(3, [BOXES["h200x8"]], per_rack=2), running.url, running.folder / "simulation")
        with running.client() as client:
            crowd.join(client)
        crowd.start()
        until(lambda: _online(running) == 5, "all nodes are online", LONG_S)
        yield running
        crowd.stop()


def _online(fleet: Fleet) -> int:
    with fleet.client() as client:
        return sum(node.contact == "online" for node in client.nodes().items)


@pytest.fixture
def client(fleet: Fleet) -> Iterator[Client]:
    """The administrator's SDK; what a test has left behind ends with it."""
    with fleet.client() as connected:
        yield connected
        left = [job.id for job in connected.jobs(limit=200).items if job.state not in FINAL]
        for job_id in left:
            with suppress(ApiError):  # it has ended meanwhile
                connected.cancel_job(job_id)
        for job_id in left:
            fleet.wait_job(job_id, *FINAL, within_s=LONG_S)


@pytest.fixture
def run(fleet: Fleet, tmp_path: Path) -> Cli:
    """The command line tool."""
    return runner({"TINYFLEET_URL": fleet.url, "TINYFLEET_TOKEN": fleet.token, "HOME": str(tmp_path)})


def said(run: Cli, *arguments: str) -> dict[str, Any]:
    """What the command prints for scripts; it succeeds."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    done = run(*arguments[:end], "--json", *arguments[end:])
    assert done.exit_code == 0, (arguments, done.stdout, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ended(fleet: Fleet, job_id: int) -> Job:
    return fleet.wait_job(job_id, *FINAL, within_s=LONG_S)


def begun(fleet: Fleet, job_id: int) -> Job:
    return fleet.wait_job(job_id, "running", within_s=LONG_S)


def node_id(client: Client, name: str) -> int:
    return next(node.id for node in client.nodes().items if node.name == name)


def waits(client: Client, job_id: int, word: str) -> Any:
    """Why the job waits, once it is known and says so."""
    return until(
        lambda: (why := client.why(job_id)).state == "queued" and word in why.model_dump_json() and why,
        f"job {job_id} waits for {word}",
        LONG_S,
    )


# ------------------------------------------------------------------------------------------ requirements


def test_a_job_runs_where_all_that_it_asks_for_is(fleet: Fleet, client: Client, run: Cli) -> None:
    assert said(run, "nodes", "label", "sim-001", "zone=a", "old=1")["labels"] == {"zone": "a", "old": "1"}
    said(run, "nodes", "label", "sim-002", "zone=a")
    wishes = [
        "gpu_arch=sm_90",
        "gpu_memory=100g",
        "gpu_vendor=nvidia",
        "gpu_driver=nvidia",
        "cpus=4",
        "label=zone=a",
    ]
    wishes += ["not_label=old", "trust=sealed", "rack=r01"]
    options = [part for wish in wishes for part in ("-r", wish)]
    job = said(run, "jobs", "submit", "noop", "--gpus", "3", *options, "--wait-timeout", "90")
    assert (job["state"], job["ran_on"]) == ("succeeded", "sim-002")
    (attempt,) = client.attempts(job["id"])
    assert len(attempt.gpus) == 3


@pytest.mark.parametrize(
    ("wanted", "lift"),
    [
        ({"gpus": 1, "gpu_vendor": "amd"}, "gpu_vendor"),
        ({"gpus": 1, "gpu_driver": "vfio"}, "gpu_driver"),
        ({"gpus": 1, "gpu_arch": "sm_120"}, "gpu_arch"),
        ({"gpus": 1, "gpu_memory_bytes": 1 << 40}, "gpu_memory_bytes"),
        ({"gpus": 9}, "gpus"),
        ({"cpus": 4096}, "slots"),
        ({"labels": {"zone": "nowhere"}}, "labels"),
        ({"anti_labels": ["kind"], "labels": {"kind": "real"}}, "anti_labels"),
        ({"rack": "r99"}, "rack"),
        ({"ranks": 6}, "ranks"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_node_offers_is_named_and_without_it_the_job_starts(
    fleet: Fleet, client: Client, run: Cli, wanted: dict[str, Any], lift: str
) -> None:
    job = client.submit_job({"kind": "noop"}, requirements=wanted)
    why = waits(client, job.id, lift)
    assert [lift] in [remedy.lift for remedy in why.remedies if remedy.at_once]
    assert lift in run("why", str(job.id)).stdout
    name = {"slots": "cpus"}.get(lift, lift)
    without = {key: value for key, value in wanted.items() if key != name}
    assert ended(fleet, client.submit_job({"kind": "noop"}, requirements=without).id).state == "succeeded"


def test_who_wants_a_node_alone_has_it_alone(fleet: Fleet, client: Client, run: Cli) -> None:
    said(run, "nodes", "label", "sim-003", "alone=yes")
    here = ["-r", "label=alone=yes", "--seconds", "600"]
    whole = said(run, "jobs", "submit", "noop", "-r", "whole_node", *here)["id"]
    begun(fleet, whole)
    assert len(client.attempts(whole)[0].gpus) == 8
    beside = said(run, "jobs", "submit", "noop", "--gpus", "1", *here)["id"]
    assert "sim-003" in str(waits(client, beside, "held exclusively").groups)
    said(run, "jobs", "cancel", str(whole))
    begun(fleet, beside)
    timed = said(run, "jobs", "submit", "noop", "--gpus", "1", "-r", "exclusive=node", *here)["id"]
    why = waits(client, timed, "is shared by 1")
    assert ["exclusive"] in [remedy.lift for remedy in why.remedies]
    client.cancel_job(beside)
    begun(fleet, timed)


# ---------------------------------------------------------------------------------------- gangs, waiting


def test_each_rank_of_a_gang_is_told_where_it_is_and_where_to_meet(
    fleet: Fleet, client: Client, run: Cli
) -> None:
    script = 'echo "rank=$TINYFLEET_RANK of=$TINYFLEET_RANKS at=$TINYFLEET_RENDEZVOUS peers=$TINYFLEET_PEERS"'
    job = said(run, "run", "--detach", "--ranks", "2", *LINUX, "--", "sh", "-c", script)["id"]
    assert ended(fleet, job).state == "succeeded"
    assert sorted(attempt.node for attempt in client.attempts(job)) == ["tiny1", "tiny2"]
    log = until(lambda: (text := "".join(client.job_logs(job))).count("peers=") == 2 and text, "both logs")
    lines = [
        dict(word.split("=", 1) for word in line.split()) for line in log.splitlines() if "rank=" in line
    ]
    assert sorted((line["rank"], line["of"]) for line in lines) == [("0", "2"), ("1", "2")]
    assert len({line["at"] for line in lines}) == 1
    assert all(":" in line["at"] and "," in line["peers"] for line in lines)


def test_a_rank_that_fails_fails_its_gang_and_stops_the_others(fleet: Fleet, client: Client) -> None:
    script = 'test "$TINYFLEET_RANK" = 1 && exit 3; exec sleep 600'
    spec = {"kind": "command", "argv": ["sh", "-c", script]}
    wanted = {"ranks": 2, "labels": {"kind": "real"}}
    failed = ended(fleet, client.submit_job(spec, requirements=wanted).id)
    assert (failed.state, failed.outcome) == ("failed", "failed")
    assert failed.error.startswith("rank 1:")
    assert sorted(str(each.outcome) for each in client.attempts(failed.id)) == ["cancelled", "failed"]


def test_jobs_wait_for_others_to_begin_to_succeed_or_to_end(fleet: Fleet, client: Client, run: Cli) -> None:
    first = said(run, "jobs", "submit", "noop", "--seconds", "600", "--gpus", "1")["id"]
    after = said(run, "jobs", "submit", "noop", "--after", str(first))
    ok = said(run, "jobs", "submit", "noop", "--after-ok", str(first))
    anyhow = client.submit_job({"kind": "noop"}, after_any=[first])
    assert (ok["state"], anyhow.state) == ("blocked", "blocked")
    assert client.why(ok["id"]).waits_for == [first]
    assert ended(fleet, after["id"]).state == "succeeded"
    client.cancel_job(first)
    assert ended(fleet, ok["id"]).state == "failed"
    assert f"job {first}" in client.job(ok["id"]).error
    assert ended(fleet, anyhow.id).state == "succeeded"


def test_commands_and_crons_wait_and_ask_as_other_jobs_do(
    fleet: Fleet, client: Client, run: Cli, tmp_path: Path
) -> None:
    hold = said(run, "run", "--detach", *LINUX, "--", "sleep", "600")["id"]
    (tmp_path / "word").write_text("a word")
    wait = ["--after-any", str(hold), "--retry-on", "failed", "--queue-timeout", "600"]
    word = [*LINUX, "--file", f"{tmp_path / 'word'}:word", "--", "sh", "-c"]
    then = said(run, "run", "--detach", *wait, *word, "cat word")
    many = ["--array", "3", "--parallel", "2", "--after-any", str(hold)]
    array = said(run, "run", *many, *word, "grep -q word word && exit $TINYFLEET_ARRAY_INDEX")["id"]
    assert (then["state"], then["retry_on"], then["queue_timeout_s"]) == ("blocked", ["failed"], 600.0)
    assert client.array(array).unmade == 3
    client.cancel_job(hold)
    assert ended(fleet, then["id"]).state == "succeeded"
    assert "".join(client.job_logs(then["id"])) == "a word"
    until(lambda: client.array(array).finished, "all of it has ended", LONG_S)
    assert client.array(array).states == {"failed": 2, "succeeded": 1}
    asks = ["--gpus", "2", "-r", "gpu_vendor=nvidia", "--preemptible", "--env", "X=1"]
    cron = said(run, "crons", "add", "nightly", "@daily", *asks, *word, "cat word")
    assert cron["job"]["requirements"] == {"gpus": 2, "gpu_vendor": "nvidia", "labels": {"kind": "real"}}
    assert cron["job"]["preemptible"]
    spec = cron["job"]["spec"]
    assert (spec["env"], spec["files"][0]["path"], spec["artifacts"]) == (
        {"X": "1"},
        "word",
        ["results.json"],
    )
    twice = run("crons", "add", "other", "@daily", "--spec", str(tmp_path / "word"), "--env", "X=1")
    assert (twice.exit_code, "stands in that file" in twice.stderr) == (2, True)
    assert run("run", "--parallel", "2", "--", "true").exit_code == 2


# ------------------------------------------------------------------------------------- many, and again


def test_an_arrays_jobs_know_their_index_and_it_can_be_ended(
    fleet: Fleet, client: Client, run: Cli, tmp_path: Path
) -> None:
    spec = tmp_path / "job.json"
    spec.write_text(json.dumps({"kind": "command", "argv": ["sh", "-c", "exit $TINYFLEET_ARRAY_INDEX"]}))
    array = said(run, "arrays", "submit", str(spec), "--size", "3", "--parallel", "2", *LINUX)["id"]
    until(lambda: client.array(array).finished, "all of it has ended", LONG_S)
    assert said(run, "arrays", "show", str(array))["states"] == {"failed": 2, "succeeded": 1}
    (good,) = [job for job in client.jobs(array=array).items if job.state == "succeeded"]
    assert (good.array_id, good.array_index) == (array, 0)
    waits = ["--after-any-array", str(array)]
    next_one = said(run, "arrays", "submit", str(spec), "--size", "1", *waits, *LINUX)
    assert next_one["waits_for"] == {"after_any_arrays": [array]}
    last = client.submit_job({"kind": "noop"}, after_ok_arrays=[next_one["id"]])
    with pytest.raises(ApiError, match=f"array {array} is failed"):
        client.submit_array({"kind": "noop"}, 2, after_ok_arrays=[array])
    assert ended(fleet, last.id).state == "succeeded"
    large = client.submit_array({"kind": "noop", "seconds": 600.0}, 100_000, parallel=4)
    assert (large.size, large.unmade) == (100_000, 100_000)
    until(lambda: client.array(large.id).states.get("running"), "some of it run", LONG_S)
    assert client.array(large.id).unmade == 100_000 - 4
    assert large.id in [row["id"] for row in said(run, "arrays", "list")["items"]]
    said(run, "arrays", "cancel", str(large.id))
    until(lambda: client.array(large.id).finished, "it has ended", LONG_S)
    assert client.array(large.id).states == {"cancelled": 4}


def test_batches_are_all_or_none_and_a_job_can_be_had_again(
    fleet: Fleet, client: Client, run: Cli, tmp_path: Path
) -> None:
    jobs = [{"spec": {"kind": "noop", "fail": each == 1}, "name": f"part-{each}"} for each in range(3)]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    ids = said(run, "jobs", "batch", str(tmp_path / "jobs.json"))["ids"]
    assert [ended(fleet, each).state for each in ids] == ["succeeded", "failed", "succeeded"]
    newest = client.jobs(limit=1).items[0].id
    with pytest.raises(ApiError, match=r"jobs\[1\].after_ok"):
        client.submit_batch([*jobs[:1], {"spec": {"kind": "noop"}, "after_ok": [10**6]}])
    assert client.jobs(limit=1).items[0].id == newest
    again = said(run, "jobs", "retry", str(ids[1]))
    assert (again["clone_of"], again["name"]) == (ids[1], "part-1")
    clone = client.clone_job(ids[0])
    assert (ended(fleet, clone.id).state, ended(fleet, again["id"]).state) == ("succeeded", "failed")
    assert run("jobs", "retry", str(ids[0])).exit_code != 0
    assert client.retry_job(again["id"]).clone_of == again["id"]
    assert said(run, "jobs", "clone", str(ids[0]))["clone_of"] == ids[0]


# --------------------------------------------------------------------------------------------- limits


def test_the_wait_and_the_run_have_their_limits(fleet: Fleet, client: Client, run: Cli) -> None:
    late = said(run, "jobs", "submit", "noop", "-r", "rack=r99", "--queue-timeout", "1")["id"]
    assert "queue timeout of 1 s" in ended(fleet, late).error
    long = said(run, "run", "--detach", *LINUX, "--timeout", "1", "--", "sleep", "600")["id"]
    assert ended(fleet, long).outcome == "timed_out"


def test_what_fails_is_tried_again_if_that_was_asked_for_and_later_each_time(
    fleet: Fleet, client: Client, run: Cli
) -> None:
    once = said(run, "jobs", "submit", "noop", *LINUX, "--max-retries", "1", "--retry-on", "failed")["id"]
    assert ended(fleet, once).attempts == 1
    spec = {"kind": "noop", "fail": True}
    job = client.submit_job(
        spec, max_retries=1, retry_on=["failed"], requirements={"labels": {"kind": "real"}}
    )
    why = waits(client, job.id, "is tried again in")
    assert not why.would_start
    assert (ended(fleet, job.id).state, client.job(job.id).attempts) == ("failed", 2)
    first, second = client.attempts(job.id)
    assert first.node != second.node
    never = client.submit_job(spec, requirements={"labels": {"kind": "real"}})
    assert ended(fleet, never.id).attempts == 1


def test_a_cancelled_command_and_all_that_it_started_are_gone(fleet: Fleet, client: Client, run: Cli) -> None:
    marker = f"8{fleet.port}"
    script = (
        f"setsid sh -c 'trap \"\" TERM HUP; sleep {marker}; sleep {marker}' & sleep {marker} & sleep {marker}"
    )
    job = said(run, "run", "--detach", *LINUX, "--", "sh", "-c", script)["id"]

    def left() -> list[int]:
        return [pid for pid in pids() if command_line(pid).startswith(f"sleep {marker}")]

    until(lambda: len(left()) == 3, "all of it runs", LONG_S)
    said(run, "jobs", "cancel", str(job))
    assert ended(fleet, job).state == "cancelled"
    until(lambda: not left(), "nothing of it is left", LONG_S)


# ------------------------------------------------------------------------------- priorities and tenants


def test_a_preemptible_job_makes_way_and_runs_again(fleet: Fleet, client: Client, run: Cli) -> None:
    said(run, "nodes", "label", "sim-001", "stage=one")
    here = ["-r", "label=stage=one", "--gpus", "8"]
    low = said(run, "jobs", "submit", "noop", "--seconds", "600", "--preemptible", *here)["id"]
    begun(fleet, low)
    high = said(run, "jobs", "submit", "noop", "--seconds", "2", "--priority", "10", *here)["id"]
    assert ended(fleet, high).state == "succeeded"
    again = begun(fleet, low)
    assert again.attempts == 2
    assert [str(each.outcome) for each in client.attempts(low)] == ["cancelled", "None"]


def test_quotas_are_held_and_said(fleet: Fleet, client: Client, run: Cli) -> None:
    said(run, "tenants", "quota", "default", "--gpus", "2", "--weight", "2", "--queued", "50")
    held = said(run, "jobs", "submit", "noop", "--seconds", "600", "--gpus", "2")["id"]
    begun(fleet, held)
    more = client.submit_job({"kind": "noop"}, requirements={"gpus": 1})
    assert waits(client, more.id, "quota:").quota == "quota: tenant default holds 2 of 2 GPUs"
    whole = client.submit_job({"kind": "noop"}, requirements={"whole_node": True, "gpus": 1})
    assert "it would hold 8 or more" in waits(client, whole.id, "quota:").quota
    (row,) = said(run, "tenants", "list")["items"]
    assert (row["held_gpus"], row["max_gpus"], row["weight"]) == (2, 2, 2.0)
    with pytest.raises(ApiError, match="queued jobs"):
        client.submit_array({"kind": "noop"}, 100)
    client.put_quota("default", gpu_seconds=1.0)
    assert "GPU-seconds" in waits(client, more.id, "GPU-").quota
    client.put_quota("default")
    assert ended(fleet, more.id).state == "succeeded"


def test_usage_is_counted_by_tenant_and_by_node(fleet: Fleet, client: Client, run: Cli) -> None:
    job = client.submit_job({"kind": "noop", "seconds": 1.0}, requirements={"gpus": 4})
    where = ended(fleet, job.id).ran_on
    used = said(run, "usage")
    assert any(row["node"] == where and row["gpu_leased_s"] > 0 for row in used["tenants"])
    for node in client.usage().nodes:
        assert node.gpus == 8
        assert node.leased_s + node.idle_s + node.quarantined_s == pytest.approx(node.gpu_s)
    assert client.why(job.id).likely_s is not None


# ---------------------------------------------------------------------------------------------- nodes


def test_windows_keep_nodes_for_a_tenant_or_for_work_on_them(fleet: Fleet, client: Client, run: Cli) -> None:
    said(run, "nodes", "label", "sim-002", "stage=two")
    here = ["-r", "label=stage=two", "--gpus", "1"]
    going = said(run, "jobs", "submit", "noop", "--seconds", "600", *here)["id"]
    begun(fleet, going)
    kept = said(run, "windows", "maintain", "sim-002", "--until", "2h", "--reason", "fans")
    waits(client, going, "in maintenance")
    assert kept["id"] in [row["id"] for row in said(run, "windows", "list")["items"]]
    said(run, "windows", "cancel", str(kept["id"]))
    begun(fleet, going)
    soon = client.add_window(["sim-002"], time.time() + 7200, starts_at=time.time() + 3600)
    assert (soon.kind, client.cancel_window(soon.id).cancelled_at is not None) == ("maintenance", True)
    mine = said(run, "windows", "reserve", "default", "sim-002", "--until", "1h")
    client.cancel_job(going)
    own = said(run, "jobs", "submit", "noop", *here, "--wait-timeout", "90")
    assert own["ran_on"] == "sim-002"
    said(run, "windows", "cancel", str(mine["id"]))


def test_a_node_is_kept_free_and_drained_by_a_deadline(fleet: Fleet, client: Client, run: Cli) -> None:
    said(run, "nodes", "label", "sim-003", "stage=three")
    here = ["-r", "label=stage=three", "--gpus", "1"]
    going = said(run, "jobs", "submit", "noop", "--seconds", "600", *here)["id"]
    begun(fleet, going)
    assert said(run, "nodes", "cordon", "sim-003")["cordoned"]
    other = said(run, "jobs", "submit", "noop", *here)["id"]
    waits(client, other, "is cordoned")
    assert client.job(going).state == "running"
    client.uncordon(node_id(client, "sim-003"))
    assert ended(fleet, other).state == "succeeded"
    said(run, "nodes", "drain", "sim-003", "--deadline", "1")
    waits(client, going, "is drain")
    until(lambda: client.node(node_id(client, "sim-003")).state == "drained", "it is drained", LONG_S)
    said(run, "nodes", "uncordon", "sim-003")
    begun(fleet, going)
