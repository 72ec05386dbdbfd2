"""The whole product, for real: API, controllers and agents as processes; what goes right, and what is made to go wrong."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.programs import program
from engine.serialize import kernel_hash, kernel_to_json
from fleet.agents.keys import Key
from fleet.client import ApiError, Client
from fleet.resources import Job, Search
from tests.signing import joining
from tests.whole import Fleet, gemm, running_fleet, until

pytestmark = pytest.mark.real
QUARANTINED = {"wrong", "out_of_bounds", "crashed", "hung"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server with one good node, shared by the tests that harm nobody."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as running:
        running.start_agent("good")
        yield running


@pytest.fixture
def client(fleet: Fleet) -> Iterator[Client]:
    """The administrator, against the shared fleet."""
    with fleet.client() as connected:
        yield connected


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of a test's own, to break."""
    with running_fleet(tmp_path) as running:
        yield running


def attempt_state(fleet: Fleet, node: str, attempt_id: int) -> dict[str, Any]:
    """The state file of a node's attempt."""
    [file] = (fleet.folder / node).glob(f"attempts/{attempt_id}-*/state.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def running_noop(fleet: Fleet, seconds: float, node: str | None = None) -> Job:
    """A job that has started and will take `seconds`."""
    with fleet.client() as client:
        job = client.submit_job({"kind": "noop", "seconds": seconds}, node=node)
    return fleet.wait_job(job.id, "running")


def searched(fleet: Fleet, n: int, **options: Any) -> Search:
    """A finished search of an n-cubed matrix product."""
    with fleet.client() as client:
        search = client.run_search(gemm(n), **options)
    return fleet.wait_search(search.id, "done", "failed", within_s=90)


# ------------------------------------------------------------------------------------------ what goes right


def test_a_kernel_job_returns_a_verified_result(fleet: Fleet, client: Client) -> None:
    job = client.submit_job(
        {"kind": "kernel", "kernel": gemm(96), "compare": ["none", "numpy"], "time_s": 0.05}
    )
    result = fleet.wait_job(job.id, "succeeded", "failed").result
    assert result is not None
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {"heuristic", "none", "numpy"}
    for row in rows.values():
        assert row["outcome"] == "ok", row
        assert 0 <= row["max_error"] <= row["tolerance"]
        assert row["gflops"] > 0
    assert result["reduction"] == 96


def test_a_search_finds_a_kernel_that_the_cache_and_tuned_jobs_use(fleet: Fleet, client: Client) -> None:
    search = searched(fleet, 64, budget_s=20, per_round=3, max_rounds=2)
    assert search.state == "done", search.error
    assert search.source == "search"
    outcomes = client.candidates(search.id)
    best = min(c.time_s for c in outcomes if c.outcome == "ok" and c.time_s)
    assert search.best_s is not None
    assert search.best_s <= best * 2
    again = client.run_search(gemm(64), budget_s=20, per_round=3, max_rounds=2)
    assert (again.state, again.source) == ("done", "cache")
    assert again.best_schedule == search.best_schedule
    [tuned] = [k for k in client.kernels().items if k.search_id == search.id]
    assert "void" in client.kernel_source(tuned.id)
    job = client.submit_job({"kind": "kernel", "kernel": gemm(64), "schedule": "tuned", "time_s": 0.05})
    result = fleet.wait_job(job.id, "succeeded", "failed").result
    assert result is not None
    assert result["rows"][0]["schedule"] == search.best_schedule


def test_a_serialized_kernel_runs_like_a_named_one(fleet: Fleet, client: Client) -> None:
    kernel = program("gemm", [32, 24, 16], "float32")
    job = client.submit_job({"kind": "kernel", "kernel": {"json": kernel_to_json(kernel)}, "time_s": 0.02})
    result = fleet.wait_job(job.id, "succeeded", "failed").result
    assert result is not None
    assert result["kernel_hash"] == kernel_hash(kernel)


def test_logs_are_stored_and_outlive_the_attempt(fleet: Fleet, client: Client) -> None:
    job = client.submit_job({"kind": "noop"})
    fleet.wait_job(job.id, "succeeded")
    assert until(lambda: "".join(client.job_logs(job.id)), "the log has arrived").strip()


def test_a_failing_job_fails_and_is_not_retried(fleet: Fleet, client: Client) -> None:
    job = client.submit_job({"kind": "noop", "fail": True})
    failed = fleet.wait_job(job.id, "failed")
    assert (failed.outcome, failed.attempts) == ("failed", 1)


def test_a_job_over_its_time_limit_is_timed_out(fleet: Fleet, client: Client) -> None:
    job = client.submit_job({"kind": "noop", "seconds": 600}, timeout_s=1)
    assert fleet.wait_job(job.id, "failed").outcome == "timed_out"


def test_a_running_job_is_cancelled_and_its_process_is_gone(fleet: Fleet, client: Client) -> None:
    job = running_noop(fleet, 600)
    [attempt] = client.attempts(job.id)
    task = attempt_state(fleet, "good", attempt.id)["task"]["pid"]
    client.cancel_job(job.id)
    assert fleet.wait_job(job.id, "cancelled").outcome == "cancelled"
    until(lambda: not (Path("/proc") / str(task)).exists(), "the task's process is gone")


def test_the_same_submission_twice_is_one_job(client: Client) -> None:
    first = client.submit_job({"kind": "noop"}, idempotency_key="twice-0001")
    assert client.submit_job({"kind": "noop"}, idempotency_key="twice-0001").id == first.id
    with pytest.raises(ApiError) as refused:
        client.submit_job({"kind": "noop", "fail": True}, idempotency_key="twice-0001")
    assert 400 <= refused.value.status < 500


# ----------------------------------------------------------------------------------------------- bad input


BAD_JOBS: list[tuple[str, dict[str, Any]]] = [
    ("unknown field", {"spec": {"kind": "noop", "secnods": 1}}),
    ("unknown field", {"spec": {"kind": "noop"}, "prioritty": 1}),
    ("unknown kind", {"spec": {"kind": "nope"}}),
    ("internal kind", {"spec": {"kind": "expand", "kernel": gemm(8), "limit": 1}}),
    ("shape of a gemm", {"spec": {"kind": "kernel", "kernel": {"program": "gemm", "shape": [8, 8]}}}),
    ("negative size", {"spec": {"kind": "kernel", "kernel": {"program": "copy", "shape": [-1]}}}),
    ("too large", {"spec": {"kind": "kernel", "kernel": {"program": "copy", "shape": [1 << 20, 1 << 20]}}}),
    ("unknown program", {"spec": {"kind": "kernel", "kernel": {"program": "conv", "shape": [8]}}}),
    ("two references", {"spec": {"kind": "kernel", "kernel": {**gemm(8), "hash": "0" * 64}}}),
    ("unknown blob", {"spec": {"kind": "kernel", "kernel": {"hash": "0" * 64}}}),
]


@pytest.mark.parametrize(
    "body", [body for _, body in BAD_JOBS], ids=[f"{n}-{i}" for i, (n, _) in enumerate(BAD_JOBS)]
)
def test_a_bad_job_is_refused_and_nothing_is_written(
    fleet: Fleet, client: Client, body: dict[str, Any]
) -> None:
    before = [job.id for job in client.jobs().items]
    reply = httpx.post(f"{fleet.url}/v1/jobs", json=body, headers={"Authorization": f"Bearer {fleet.token}"})
    assert 400 <= reply.status_code < 500, reply.text
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert reply.json()["title"]
    assert [job.id for job in client.jobs().items] == before


def test_an_unknown_architecture_or_node_is_said_at_once(client: Client) -> None:
    for where in ({"arch": "no-such-arch"}, {"node": "no-such-node"}):
        with pytest.raises(ApiError) as refused:
            client.submit_job({"kind": "noop"}, **where)
        assert 400 <= refused.value.status < 500
    with pytest.raises(ApiError):
        client.run_search(gemm(8), arch="no-such-arch")


def test_shapes_only_the_engine_can_judge_end_as_invalid_and_are_not_retried(
    fleet: Fleet, client: Client
) -> None:
    nodes = [
        {"op": "PARAM", "dtype": "float32", "src": [], "arg": [0, [4, 8]]},
        {"op": "PARAM", "dtype": "float32", "src": [], "arg": [1, [5, 8]]},
        {"op": "ADD", "dtype": "float32", "src": [0, 1], "arg": None},
    ]
    job = client.submit_job(
        {"kind": "kernel", "kernel": {"json": {"version": 1, "nodes": nodes, "output": 2}}}
    )
    ended = fleet.wait_job(job.id, "failed")
    assert (ended.outcome, ended.attempts) == ("invalid", 1)
    assert ended.error


def test_an_illegal_schedule_ends_as_invalid(fleet: Fleet, client: Client) -> None:
    spec = {"kind": "kernel", "kernel": gemm(8), "schedule": [["UPCAST", "out", 7, 4, None]]}
    ended = fleet.wait_job(client.submit_job(spec).id, "failed")
    assert ended.outcome == "invalid"


def test_a_body_that_is_too_large_is_refused_before_it_is_read(fleet: Fleet) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", fleet.port, timeout=10)
    connection.putrequest("POST", "/v1/jobs")
    connection.putheader("Authorization", f"Bearer {fleet.token}")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    reply = connection.getresponse()
    assert reply.status == 413
    assert json.loads(reply.read())["title"]
    connection.close()


def test_a_join_token_works_once(fleet: Fleet, client: Client) -> None:
    secret = client.join_token().secret
    node = client.nodes().items[0]
    answers = [
        httpx.post(
            f"{fleet.url}/v1/agents/enroll",
            json=joining(secret, name, Key.made()).model_dump(mode="json"),
            headers={"Authorization": f"Bearer {secret}"},
        ).status_code
        for name in ("once", "twice")
    ]
    assert answers[0] in (200, 201)
    assert 400 <= answers[1] < 500
    names = {each.name for each in client.nodes().items}
    assert names >= {node.name, "once"}
    assert "twice" not in names


# ------------------------------------------------------------------------------------- what is made to go wrong


def test_kernels_that_crash_hang_overrun_or_lie_are_quarantined_and_the_right_one_wins(
    fragile: Fleet,
) -> None:
    fragile.start_agent("faulty", setup="tests.whole:faulty_tasks")
    search = searched(fragile, 64, budget_s=40, per_round=16, max_rounds=1)
    assert search.state == "done", search.error
    with fragile.client() as client:
        candidates = client.candidates(search.id, limit=200)
        quarantined = client.quarantine(limit=200).items
    outcomes = {c.outcome for c in candidates}
    assert outcomes | {q.outcome for q in quarantined} >= QUARANTINED
    assert {c.hash for c in candidates if c.outcome in QUARANTINED} <= {q.schedule_hash for q in quarantined}
    winner = next(c for c in candidates if c.schedule == search.best_schedule)
    assert winner.outcome == "ok"


def test_an_agent_killed_alone_leaves_its_job_running_and_reports_it_later(fragile: Fleet) -> None:
    fragile.start_agent("node")
    job = running_noop(fragile, 3)
    fragile.agents["node"].kill()
    fragile.start_agent("node")
    done = fragile.wait_job(job.id, "succeeded", "failed", "cancelled")
    assert (done.state, done.attempts) == ("succeeded", 1)


def test_a_lost_node_is_replaced_and_its_old_result_is_refused(fragile: Fleet) -> None:
    fragile.start_agent("first")
    job = running_noop(fragile, 2)
    with fragile.client() as client:
        [attempt] = client.attempts(job.id)
    state = attempt_state(fragile, "first", attempt.id)
    fragile.agents["first"].kill()
    os.kill(state["supervisor"]["pid"], signal.SIGKILL)
    fragile.start_agent("second")
    done = fragile.wait_job(job.id, "succeeded", "failed", within_s=40)
    assert (done.state, done.attempts) == ("succeeded", 2)
    with fragile.client() as client:
        old, new = client.attempts(job.id)
        assert (old.outcome, new.outcome) == ("node_lost", "succeeded")
        assert new.fence > old.fence
        assert (old.node, new.node) == ("first", "second")
        fragile.start_agent("first")  # comes back and reports what became of the old attempt
        until(
            lambda: any(e.kind == "attempt.stale_report" for e in all_events(client)),
            "the stale report is recorded",
        )
        assert client.job(job.id).state == "succeeded"
        assert [a.outcome for a in client.attempts(job.id)] == ["node_lost", "succeeded"]


def all_events(client: Client) -> list[Any]:
    """Every event so far."""
    found: list[Any] = []
    page = client.events(limit=200)
    while page.items:
        found += page.items
        page = client.events(after=page.items[-1].id, limit=200)
    return found


def test_a_server_killed_mid_search_continues_and_measures_nothing_twice(fragile: Fleet) -> None:
    fragile.start_agent("node")
    with fragile.client() as client:
        search = client.run_search(gemm(80), budget_s=40, per_round=3, max_rounds=2)
        until(lambda: client.search(search.id).measured > 0, "the first candidates are measured")
    assert fragile.server is not None
    fragile.server.kill()
    fragile.start_server()
    done = fragile.wait_search(search.id, "done", "failed", within_s=60)
    assert done.state == "done", done.error
    with fragile.client() as client:
        measured = [
            c.hash for c in client.candidates(search.id, limit=200) if c.outcome not in (None, "skipped")
        ]
        assert client.whoami().role == "admin"
    assert len(measured) == len(set(measured))
    assert done.rounds == 2
