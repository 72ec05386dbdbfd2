from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from fleet import execs
from fleet.client import ApiError, Client
from tests.api.agent import Agent, exited, running

GEMM = {"program": "gemm", "shape": [8, 8, 8]}


def kernel_spec(**said: object) -> dict[str, object]:
    """A kernel job with something else said of its kernel."""
    return {"spec": {"kind": "kernel", "kernel": {**GEMM, **said}}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"spec": {"kind": "noop"}, "prioritty": 1}, "prioritty"),
        ({"spec": {"kind": "noop", "secnods": 1}}, "spec.secnods"),
        ({"spec": {"kind": "noop", "seconds": -1}}, "spec.seconds"),
        ({"spec": {"kind": "expand"}}, "spec.kind"),
        ({"spec": {}}, "spec.kind"),
        (kernel_spec(shape=[0, 8, 8]), "spec.kernel.shape[0]"),
        (kernel_spec(shape=[8, True, 8]), "spec.kernel.shape[1]"),
        (kernel_spec(shape=[8, 8, "32"]), "spec.kernel.shape[2]"),
        (kernel_spec(shape=[32.0, 8, 8]), "spec.kernel.shape[0]"),
        (kernel_spec(kernel=1), "spec.kernel.kernel"),
        ({"spec": {"kind": "kernel", "kernel": GEMM, "threads": 0}}, "spec.threads"),
        ({"spec": {"kind": "kernel", "kernel": GEMM, "threads": True}}, "spec.threads"),
        ({"spec": {"kind": "kernel", "kernel": GEMM, "schedule": "fast"}}, "spec.schedule"),
        ({"spec": {"kind": "kernel", "kernel": GEMM, "compare": ["numpy", 1]}}, "spec.compare[1]"),
        ({"spec": {"kind": "kernel"}}, "spec.kernel"),
        ({"spec": {"kind": "noop", "seconds": True}}, "spec.seconds"),
        ({"spec": {"kind": "noop", "fail": "yes"}}, "spec.fail"),
        ({"spec": {"kind": "noop"}, "priority": "1"}, "priority"),
        ({"spec": {"kind": "noop"}, "max_retries": 2.0}, "max_retries"),
        ({"spec": {"kind": "noop"}, "timeout_s": "5"}, "timeout_s"),
        ({"spec": {"kind": "noop"}, "node": True}, "node"),
        ({"spec": {"kind": "noop"}, "node": -1}, "node"),
        ({"spec": {"kind": "noop"}, "priority": 1000}, "priority"),
        ({"spec": {"kind": "noop"}, "name": "no spaces"}, "name"),
        (
            {"spec": {"kind": "kernel", "kernel": {"program": "gemm", "shape": [8]}}},
            "spec.kernel",
        ),
        ({"spec": {"kind": "noop"}, "node": "nobody"}, "node"),
        ({"spec": {"kind": "noop"}, "node": 4711}, "node"),
        ({"spec": {"kind": "noop"}, "arch": "no-such-arch"}, "arch"),
        ({"spec": {"kind": "noop"}, "arch": ""}, "arch"),
        ({"spec": {"kind": "kernel", "kernel": {"hash": "0" * 64}}}, "spec.kernel.hash"),
        ({}, "spec"),
    ],
)
def test_bad_input_names_the_field_and_writes_nothing(
    http: TestClient,
    client: Client,
    bearer: Callable[[str], dict[str, str]],
    body: dict[str, object],
    field: str,
) -> None:
    reply = http.post("/v1/jobs", json=body, headers=bearer("user"))
    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == [field]
    assert client.jobs().items == []
    assert client.events().items == []


def test_a_field_of_several_forms_is_named_once_with_what_each_would_take(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    spec = {"kind": "kernel", "kernel": GEMM, "schedule": "fast"}
    problem = http.post("/v1/jobs", json={"spec": spec, "node": 0}, headers=bearer("user")).json()
    assert problem["errors"] == [
        {
            "field": "spec.schedule",
            "message": "Input should be 'none', 'heuristic' or 'tuned', or a valid list",
        },
        {
            "field": "node",
            "message": "Input should be greater than or equal to 1, or a valid string",
        },
    ]


def test_an_unknown_kind_is_told_the_kinds_there_are(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    reply = http.post("/v1/jobs", json={"spec": {"kind": "nope"}}, headers=bearer("user"))
    assert reply.json()["errors"] == [
        {"field": "spec.kind", "message": "Input should be one of 'noop', 'kernel', 'command'"}
    ]


def test_a_whole_number_is_welcome_where_a_fraction_is_due(client: Client) -> None:
    assert client.submit_job({"kind": "noop", "seconds": 1}, timeout_s=5).spec["seconds"] == 1.0


def kernel_job(document: bytes) -> bytes:
    """The request of a kernel job whose kernel is this text."""
    return b'{"spec": {"kind": "kernel", "kernel": {"json": {"nodes": ' + document + b"}}}}"


@pytest.mark.parametrize(
    "content",
    [b"{", b"", b"[]", b'"text"', b"\xff\xfe", b'{"spec": NaN}']
    + [kernel_job(each) for each in (b"NaN", b"1e999", b'"\\ud800"', b"[" * 5000 + b"]" * 5000)],
    ids=range(10),
)
def test_what_is_no_json_object_is_refused(
    http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]], content: bytes
) -> None:
    headers = bearer("user") | {"Content-Type": "application/json"}
    reply = http.post("/v1/jobs", content=content, headers=headers)
    assert reply.status_code == 422
    assert all(error["field"] in ("body", "spec") for error in reply.json()["errors"])
    assert client.jobs().items == []


def test_a_body_that_is_no_json_is_said_to_be_none(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    headers = bearer("user") | {"Content-Type": "application/json"}
    [error] = http.post("/v1/jobs", content=b'{"spec"', headers=headers).json()["errors"]
    assert error["field"] == "body"
    assert error["message"].startswith("this is not JSON: EOF")


def test_a_job_is_submitted_listed_and_read(client: Client) -> None:
    job = client.submit_job({"kind": "kernel", "kernel": GEMM}, name="mine", priority=3, timeout_s=5)
    assert (job.state, job.kind, job.name, job.priority, job.attempts) == ("queued", "kernel", "mine", 3, 0)
    assert job.created_at.endswith("Z")
    assert client.job(job.id) == job
    assert client.jobs().items == [job]
    assert client.jobs(state="failed").items == []
    assert [each.id for each in client.jobs(kind="kernel").items] == [job.id]


def test_a_node_is_named_or_numbered(client: Client, agent: Agent) -> None:
    for node in ("tiny1", agent.node_id):
        assert client.submit_job({"kind": "noop"}, node=node).node == "tiny1"


def test_a_job_says_where_it_ran_last(parts: Parts, client: Client, agent: Agent) -> None:
    job = client.submit_job({"kind": "noop"})
    assert job.ran_on is None
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    agent.sync(attempts=[exited(attempt)])
    done, other = client.job(job.id), client.submit_job({"kind": "noop"})
    assert (done.ran_on, done.node) == ("tiny1", None)
    assert [each.ran_on for each in client.jobs().items] == [other.ran_on, "tiny1"]


@pytest.mark.parametrize("attempt", ["x", "0"])
def test_a_parameter_of_several_forms_is_one_field(
    http: TestClient, bearer: Callable[[str], dict[str, str]], attempt: str
) -> None:
    reply = http.get(f"/v1/jobs/1/logs?attempt={attempt}", headers=bearer("viewer"))
    [error] = reply.json()["errors"]
    assert error["field"] == "query.attempt"
    assert error["message"].endswith(", or 'first' or 'last'")


def test_the_same_key_with_the_same_body_is_the_same_job(client: Client) -> None:
    first = client.submit_job({"kind": "noop"}, idempotency_key="once")
    assert client.submit_job({"kind": "noop"}, idempotency_key="once").id == first.id
    with pytest.raises(ApiError) as refused:
        client.submit_job({"kind": "noop", "seconds": 1}, idempotency_key="once")
    assert refused.value.status == 422
    assert len(client.jobs().items) == 1


def test_jobs_come_page_by_page_newest_first(client: Client) -> None:
    submitted = [client.submit_job({"kind": "noop"}).id for _ in range(5)]
    first = client.jobs(limit=2)
    second = client.jobs(limit=2, after=first.next)
    third = client.jobs(limit=2, after=second.next)
    assert [job.id for page in (first, second, third) for job in page.items] == submitted[::-1]
    assert third.next is None


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "after=-1", "after=x", "state=nonsense"])
def test_a_page_that_cannot_be_is_refused(
    http: TestClient, bearer: Callable[[str], dict[str, str]], query: str
) -> None:
    reply = http.get(f"/v1/jobs?{query}", headers=bearer("viewer"))
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == f"query.{query.split('=')[0]}"


def test_a_queued_job_is_cancelled_at_once_and_twice_is_once(client: Client) -> None:
    job = client.submit_job({"kind": "noop"})
    assert client.cancel_job(job.id).state == "cancelled"
    assert client.cancel_job(job.id).state == "cancelled"


def test_a_running_job_is_cancelled_when_its_node_has_stopped_it(
    parts: Parts, client: Client, agent: Agent
) -> None:
    job = client.submit_job({"kind": "noop", "seconds": 60}, node="tiny1")
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    agent.sync(attempts=[running(attempt)])
    assert client.cancel_job(job.id).state == "cancelling"
    assert agent.sync(attempts=[running(attempt)]).attempts == []
    agent.sync(attempts=[exited(attempt, "cancelled")])
    done = client.job(job.id)
    assert (done.state, done.node, done.attempts) == ("cancelled", "tiny1", 1)


def test_a_job_that_is_over_cannot_be_cancelled(parts: Parts, client: Client, agent: Agent) -> None:
    job = client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    agent.sync(attempts=[running(attempt)])
    agent.sync(attempts=[exited(attempt)])
    with pytest.raises(ApiError) as refused:
        client.cancel_job(job.id)
    assert refused.value.status == 409
    assert refused.value.problem["state"] == "succeeded"


def test_nobody_is_there(client: Client) -> None:
    for ask in (client.job, client.cancel_job, client.attempts, lambda job: list(client.job_logs(job))):
        with pytest.raises(ApiError) as refused:
            ask(4711)
        assert refused.value.status == 404


def test_a_number_too_large_for_a_row_is_no_bug(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    reply = http.get(f"/v1/jobs/{10**30}", headers=bearer("viewer"))
    assert reply.status_code in (404, 422)


def test_a_log_before_the_first_attempt_is_empty(client: Client) -> None:
    job = client.submit_job({"kind": "noop"})
    assert list(client.job_logs(job.id)) == []


def test_a_log_comes_in_slices_and_says_where_to_go_on(
    parts: Parts, http: TestClient, client: Client, agent: Agent, bearer: Callable[[str], dict[str, str]]
) -> None:
    job = client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    agent.log(attempt, 0, b"0123456789")
    reply = http.get(f"/v1/jobs/{job.id}/logs?offset=2&limit=5", headers=bearer("viewer"))
    assert reply.text == "23456"
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["log-offset"] == "7"
    assert reply.headers["log-end"] == "false"


def test_a_log_of_another_jobs_attempt_is_not_there(
    parts: Parts, http: TestClient, client: Client, agent: Agent, bearer: Callable[[str], dict[str, str]]
) -> None:
    first, second = client.submit_job({"kind": "noop"}), client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    attempts = {each.job_id: each.attempt_id for each in agent.sync().attempts}
    path = f"/v1/jobs/{first.id}/logs?attempt={attempts[second.id]}"
    assert http.get(path, headers=bearer("viewer")).status_code == 404


@pytest.mark.parametrize(
    "kernel",
    [
        {"program": "gemm", "shape": [8, 8, 8], "json": {}},
        {"program": "gemm", "shape": [8, 8, 8], "json": {"nodes": []}},
        {"json": {"nodes": []}, "hash": "0" * 64},
        {"json": {}},
        {"document": {"nodes": []}},
        {},
    ],
)
def test_a_kernel_is_given_in_exactly_one_form(
    http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]], kernel: dict[str, object]
) -> None:
    body = {"spec": {"kind": "kernel", "kernel": kernel}}
    reply = http.post("/v1/jobs", json=body, headers=bearer("user"))
    assert reply.status_code == 422
    assert all(error["field"].startswith("spec.kernel") for error in reply.json()["errors"])
    assert client.jobs().items == []


def test_a_batch_with_a_great_deal_wrong_is_answered_in_little(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    """Each error costs a kilobyte and some time: the first job that is wrong ends it, and the answer is short."""
    wrong = {"spec": {"kind": "noop"}, **{f"a{number}": 0 for number in range(200)}}
    for jobs in ([wrong] * 2000, [{}] * 10_000):
        reply = http.post("/v1/jobs/batch", json={"jobs": jobs}, headers=bearer("user"))
        assert reply.status_code == 422
        assert len(reply.content) < 10_000
        fields = [error["field"] for error in reply.json()["errors"]]
        assert all(field.startswith("jobs[0]") or field == "body" for field in fields), fields
    reply = http.post("/v1/jobs", json=wrong, headers=bearer("user"))
    assert "there is more that is wrong" in reply.json()["errors"][-1]["message"]
    many = {"spec": {"kind": "noop", "seconds": [[]] * 70_000}}
    reply = http.post("/v1/jobs", json=many, headers=bearer("user"))
    assert "more than 65,536 values" in reply.json()["detail"]


def test_so_many_commands_run_inside_one_job_and_on_one_node(
    client: Client, parts: Parts, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold nothing that would run out: a thousand would be more than a node can report at once."""
    host = client.submit_job({"kind": "command", "argv": ["sleep", "60"]}).id
    parts.controllers.tick()
    begun = [running(attempt) for attempt in agent.sync().attempts]
    agent.sync(attempts=begun)
    for _ in range(16):
        client.exec_command(host, ["true"])
    with pytest.raises(
        ApiError, match="the job has 16 of 16 commands that run inside jobs: wait for some to end"
    ):
        client.exec_command(host, ["true"])
    monkeypatch.setattr(execs, "MOST_IN_ATTEMPT", 1000)
    monkeypatch.setattr(execs, "MOST_ON_NODE", 17)
    last = client.exec_command(host, ["true"])
    with pytest.raises(ApiError, match="its node has 17 of 17"):
        client.exec_command(host, ["true"])
    wanted = agent.sync(attempts=begun).attempts
    agent.sync(attempts=[exited(each) if each.job_id == last.id else running(each) for each in wanted])
    client.exec_command(host, ["true"])
