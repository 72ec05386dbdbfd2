from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from fleet.agents.protocol import blob_address
from fleet.client import ApiError, Client
from tests.api.agent import Agent, exited, running
from tests.api.searching import GEMM, KERNEL_HASH, SCHEDULES, SOURCE, expanded


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kernel": GEMM, "widht": 2}, "widht"),
        ({"kernel": {**GEMM, "shpae": []}}, "kernel.shpae"),
        ({"kernel": GEMM, "width": 0}, "width"),
        ({"kernel": {"program": "gemm"}}, "kernel"),
        ({}, "kernel"),
        ({"kernel": GEMM, "width": "4"}, "width"),
        ({"kernel": GEMM, "threads": True}, "threads"),
        ({"kernel": GEMM, "seed": 1.0}, "seed"),
        ({"kernel": GEMM, "budget_s": "5"}, "budget_s"),
        ({"kernel": GEMM, "refresh": 1}, "refresh"),
        ({"kernel": {**GEMM, "shape": [8, True, 8]}}, "kernel.shape[1]"),
    ],
)
def test_bad_input_names_the_field_and_writes_nothing(
    http: TestClient,
    client: Client,
    bearer: Callable[[str], dict[str, str]],
    body: dict[str, object],
    field: str,
) -> None:
    reply = http.post("/v1/searches", json=body, headers=bearer("user"))
    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == [field]
    assert client.searches().items == []


def test_an_architecture_that_no_node_has_is_refused_and_nothing_is_written(
    client: Client, agent: Agent
) -> None:
    with pytest.raises(ApiError) as refused:
        client.run_search(GEMM, arch="no-such-arch")
    assert refused.value.status == 422
    [entry] = refused.value.problem["errors"]
    assert entry["field"] == "arch"
    assert "there is acme-6-1+avx2" in entry["message"]
    assert client.searches().items == []


def test_a_search_waits_while_there_is_no_node(client: Client) -> None:
    search = client.run_search(GEMM)
    assert (search.state, search.source, search.rounds, search.measured) == ("queued", "search", 0, 0)
    assert (search.width, search.budget_s, search.threads) == (4, 30.0, 1)
    assert client.rounds(search.id) == []
    assert client.candidates(search.id) == []
    assert [each.id for each in client.searches(state="queued").items] == [search.id]


def test_the_same_search_in_flight_is_joined(client: Client) -> None:
    assert client.run_search(GEMM).id == client.run_search(GEMM).id


def test_a_search_shows_what_it_found(client: Client, finished: int) -> None:
    search = client.search(finished)
    assert (search.kernel_hash, search.measured, search.phase) == (KERNEL_HASH, 3, "")
    assert search.best_s == pytest.approx(0.001)
    assert search.best_schedule == SCHEDULES[2]
    assert search.finished_at is not None
    first = client.rounds(finished)[0]
    assert (first.number, first.state, first.candidates) == (1, "done", 3)
    assert first.outcomes == {"ok": 2, "crashed": 1}


def test_candidates_come_fastest_first_and_page_by_page(
    http: TestClient, client: Client, finished: int, bearer: Callable[[str], dict[str, str]]
) -> None:
    found = client.candidates(finished)
    assert [each.schedule for each in found] == [SCHEDULES[2], SCHEDULES[0], SCHEDULES[1]]
    assert [(each.round, each.outcome) for each in found] == [(1, "ok"), (1, "ok"), (1, "crashed")]
    path = f"/v1/searches/{finished}/candidates"
    first = http.get(f"{path}?limit=2", headers=bearer("viewer")).json()
    rest = http.get(f"{path}?limit=2&after={first['next']}", headers=bearer("viewer")).json()
    assert [each["hash"] for each in first["items"] + rest["items"]] == [each.hash for each in found]
    assert rest["next"] is None


def test_candidates_that_are_still_to_be_measured_have_no_outcome(
    parts: Parts, client: Client, agent: Agent
) -> None:
    search = client.run_search(GEMM)
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    agent.sync(attempts=[running(attempt)])
    agent.sync(attempts=[exited(attempt, **expanded(attempt))])
    parts.controllers.tick()
    assert [each.outcome for each in client.candidates(search.id)] == [None, None, None]
    assert client.search(search.id).phase == "measure"
    assert client.jobs().items == []  # a search's own jobs are not in the way
    assert len(client.jobs(kind="measure").items) == 1


def test_the_winner_is_a_tuned_kernel_with_its_source(client: Client, finished: int) -> None:
    [tuned] = client.kernels().items
    assert (tuned.search_id, tuned.schedule, tuned.threads) == (finished, SCHEDULES[2], 1)
    assert tuned.gflops == pytest.approx(1024 / 0.001 / 1e9)
    assert client.kernel(tuned.id) == tuned
    assert client.kernel_source(tuned.id) == SOURCE
    assert tuned.source_hash == blob_address(SOURCE.encode())


def test_the_next_search_of_the_same_kernel_is_answered_from_the_cache(client: Client, finished: int) -> None:
    again = client.run_search(GEMM)
    assert (again.state, again.source, again.id == finished) == ("done", "cache", False)
    assert again.best_schedule == SCHEDULES[2]


def test_a_candidate_that_crashed_is_in_quarantine(client: Client, finished: int) -> None:
    [entry] = client.quarantine().items
    assert (entry.outcome, entry.schedule, entry.search_id) == ("crashed", SCHEDULES[1], finished)
    assert entry.source_blob is not None
    assert client.get_blob(entry.source_blob).decode() == SOURCE


def test_a_search_is_cancelled(client: Client, agent: Agent) -> None:
    search = client.run_search(GEMM)
    assert client.cancel_search(search.id).state == "cancelled"
    assert client.cancel_search(search.id).state == "cancelled"


def test_nothing_is_there(client: Client) -> None:
    asks = (client.search, client.cancel_search, client.rounds, client.candidates, client.kernel)
    for ask in (*asks, client.kernel_source):
        with pytest.raises(ApiError) as refused:
            ask(4711)
        assert refused.value.status == 404
