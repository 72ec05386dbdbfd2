"""Somebody else's rows are not found; a token reaches no further than its minter's; a person is removed everywhere."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from api.routing import PUBLIC
from fleet import models, tenants
from fleet.agents.protocol import DataFile, DataList
from fleet.client import Client
from fleet.db import now
from tests.api.agent import Agent
from tests.api.conftest import Served
from tests.api.searching import GEMM
from tests.api.test_access import ROUTES

NOOP = {"spec": {"kind": "noop"}}
CRON = {"name": "nightly", "schedule": "@daily", "job": NOOP}
WEBHOOK = {"name": "chat", "url": "https://93.184.216.34/", "kinds": ["*"]}
BODIES: dict[str, dict[str, object]] = {
    "PATCH /v1/crons/{cron_id}": {},
    "POST /v1/crons/{cron_id}/accept": {"series": "loss"},
    "POST /v1/jobs/{job_id}/exec": {"spec": {"argv": ["true"]}},
}
Bearer = dict[str, str]
OWNED = {
    "{job_id}": "job",
    "{search_id}": "search",
    "{token_id}": "token",
    "{name}": "person",
    "{cron_id}": "cron",
    "{array_id}": "array",
    "{webhook_id}": "webhook",
    "{delivery_id}": "delivery",
}
SHARED = {
    "{node_id}",
    "{gpu}",  # of a node
    "{model}",
    "{box_id}",  # of those who own the machines, whom alone its routes let in
    "{kernel_id}",
    "{hash}",
    "{attempt_id}",
    "{secret}",
    "{data_set}",
    "{site}",
    "{rack}",
    "{version}",  # of a release, which is everybody's
    "{file}",
    "{tenant}",
    "{window_id}",
    "{grant_id}",
    "{key_id}",
}  # machines; kernels, secrets: tests of their own; addresses


@pytest.fixture
def stranger(parts: Parts) -> Bearer:
    """The headers of another tenant's administrator."""
    with parts.write() as session:
        secret = tenants.mint(session, name="eve", role="admin", now=now(session), tenant="other")[1]
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def ours(http: TestClient, client: Client) -> dict[str, object]:
    """One row of each kind that is somebody's."""
    search = client.run_search(GEMM, budget_s=30, threads=1)
    token = client.mint_token("ann")
    return {
        "job": client.submit_job({"kind": "noop"}).id,
        "search": search.id,
        "token": token.id,
        "person": "ann",
        "webhook": (webhook := client.add_webhook("chat", "https://93.184.216.34/", ["*"])).id,
        "delivery": client.test_webhook(webhook.id).id,
        "array": client.submit_array({"kind": "noop"}, 2).id,
        "cron": client.add_cron("nightly", "@daily", NOOP, watch=[{"name": "loss", "better": "lower"}]).id,
    }


def asked(http: TestClient, route: str, ours: dict[str, object], headers: Bearer) -> int:
    """The status of a request for the rows that are ours."""
    method, path = route.split(" ")
    for variable, noun in OWNED.items():
        path = path.replace(variable, str(ours[noun]))
    params = {"offset": 0} if path.endswith("/logs") else None
    return http.request(method, path, headers=headers, params=params, json=BODIES.get(route)).status_code


def owned() -> list[str]:
    """Routes that are about somebody's row, those that take it away last."""
    found = []
    for route in ROUTES:
        path = route.split(" ")[1]
        variables = {part for part in path.split("/") if part.startswith("{")}
        assert variables <= OWNED.keys() | SHARED, f"{route}: say whose {variables} are"
        if path not in PUBLIC and variables & OWNED.keys():
            found.append(route)
    assert len(found) > 30
    return sorted(found, key=lambda route: route.startswith("DELETE"))


def test_another_tenants_rows_are_not_found_by_any_route(
    http: TestClient,
    client: Client,
    stranger: Bearer,
    bearer: Callable[[str], Bearer],
    ours: dict[str, object],
) -> None:
    assert {route: asked(http, route, ours, stranger) for route in owned()} == dict.fromkeys(owned(), 404)
    assert client.job(int(str(ours["job"]))).state == "queued"
    owner = bearer("admin")  # to whom they are there: else the answer above would say nothing
    lost = [route for route in owned() if asked(http, route, ours, owner) == 404]
    assert lost == []


@pytest.mark.parametrize(
    "path",
    ["/v1/jobs", "/v1/jobs?kind=noop", "/v1/searches", "/v1/crons", "/v1/webhooks", "/v1/events?after=0"],
)
def test_another_tenants_rows_are_in_no_list(
    http: TestClient, stranger: Bearer, ours: dict[str, object], path: str
) -> None:
    assert http.get(path, headers=stranger).json()["items"] == []


def test_another_tenants_tokens_are_its_own(http: TestClient, stranger: Bearer, client: Client) -> None:
    assert [each["name"] for each in http.get("/v1/tokens", headers=stranger).json()["items"]] == ["eve"]
    assert {each.tenant for each in client.tokens().items} == {"default", "other"}


def test_a_tenant_sees_what_is_its_own(http: TestClient, stranger: Bearer, ours: dict[str, object]) -> None:
    job = http.post("/v1/jobs", json=NOOP, headers=stranger).json()["id"]
    assert http.get(f"/v1/jobs/{job}", headers=stranger).status_code == 200
    assert [each["id"] for each in http.get("/v1/jobs", headers=stranger).json()["items"]] == [job]
    seen = {each["subject"] for each in http.get("/v1/events?after=0", headers=stranger).json()["items"]}
    assert seen == {f"job:{job}"}


@pytest.mark.parametrize(
    ("mine", "asked", "expected"),
    [
        ({"role": "admin"}, {"role": "admin"}, 201),
        ({"role": "admin"}, {"role": "user", "tenant": "other"}, 201),
        ({"role": "admin", "scopes": ["tokens", "read"]}, {"role": "viewer", "scopes": ["read"]}, 201),
        ({"role": "admin", "scopes": ["tokens", "read"]}, {"role": "user"}, 403),
        ({"role": "admin", "scopes": ["tokens", "read"]}, {"role": "admin", "scopes": ["people"]}, 403),
        ({"role": "admin", "ttl_s": 60.0}, {"role": "admin", "ttl_s": 120.0}, 403),
        ({"role": "admin", "ttl_s": 60.0}, {"role": "admin"}, 201),
        ({"role": "admin", "tenant": "other"}, {"role": "viewer", "tenant": "default"}, 403),
        ({"role": "operator"}, {"role": "viewer"}, 403),
        ({"role": "admin"}, {"role": "user", "scopes": ["everything"]}, 422),
    ],
)
def test_a_token_mints_only_what_reaches_no_further(
    parts: Parts, http: TestClient, mine: dict[str, object], asked: dict[str, object], expected: int
) -> None:
    with parts.write() as session:
        token, secret = tenants.mint(session, name="me", now=now(session), **mine)  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {secret}"}
    reply = http.post("/v1/tokens", json={"name": "new"} | asked, headers=headers)
    assert reply.status_code == expected, reply.text
    if expected == 201 and token.expires_at is not None:
        assert (
            reply.json()["expires_at"]
            <= http.get("/v1/tokens", headers=headers).json()["items"][-1]["expires_at"]
        )


def test_a_person_is_removed_everywhere_by_one_act(http: TestClient, client: Client, parts: Parts) -> None:
    first = client.mint_token("ann", role="admin")
    second = client.mint_token("ann", role="viewer")
    ann = {"Authorization": f"Bearer {first.secret}"}
    robot = http.post("/v1/tokens", json={"name": "robot", "kind": "service"}, headers=ann).json()["secret"]
    job = http.post("/v1/jobs", json=NOOP, headers=ann).json()["id"]
    theirs = http.post("/v1/jobs", json=NOOP, headers={"Authorization": f"Bearer {robot}"}).json()["id"]
    search = http.post("/v1/searches", json={"kernel": GEMM}, headers=ann).json()["id"]
    others = client.submit_job({"kind": "noop"}).id
    removed = client.remove_person("ann")
    assert (removed.tokens, removed.jobs, removed.searches) == (3, 2, 1)
    for secret in (first.secret, second.secret, robot):
        assert http.get("/v1/whoami", headers={"Authorization": f"Bearer {secret}"}).status_code == 401
    assert [client.job(each).state for each in (job, theirs, others)] == ["cancelled", "cancelled", "queued"]
    assert client.search(search).state == "cancelled"
    again = client.remove_person("ann")
    assert (again.tokens, again.jobs, again.searches) == (0, 0, 0)


def test_removing_a_person_leaves_who_has_that_name_in_another_tenant(
    http: TestClient, client: Client, stranger: Bearer
) -> None:
    """Else an administrator of one tenant could end another's tokens: make somebody of that name, and remove them."""

    def bearer(reply: httpx.Response) -> Bearer:
        assert reply.status_code == 201, reply.text
        return {"Authorization": f"Bearer {reply.json()['secret']}"}

    def mint(by: Bearer, **asked: str) -> Bearer:
        return bearer(http.post("/v1/tokens", json=asked, headers=by))

    ann = {"Authorization": f"Bearer {client.mint_token('ann', role='admin').secret}"}
    bob = mint(ann, name="bob")
    there = mint(ann, name="boss", role="admin", tenant="other")
    other_ann = mint(there, name="ann", role="admin")
    other_bob = mint(other_ann, name="bob")
    assert http.delete("/v1/people/ann", headers=there).json()["tokens"] == 2
    assert [http.get("/v1/whoami", headers=each).status_code for each in (ann, bob, there)] == [200] * 3
    assert [http.get("/v1/whoami", headers=each).status_code for each in (other_ann, other_bob)] == [401] * 2
    work = http.post("/v1/jobs", json=NOOP, headers=there).json()["id"]
    removed = client.remove_person("ann")
    assert (removed.tokens, removed.jobs) == (3, 1)  # with whom they let in elsewhere
    assert [http.get("/v1/whoami", headers=each).status_code for each in (ann, bob, there)] == [401] * 3
    assert http.get(f"/v1/jobs/{work}", headers=stranger).json()["state"] == "cancelled"


def test_nobody_removes_themselves_or_who_is_not_there(http: TestClient, client: Client) -> None:
    headers = {"Authorization": f"Bearer {client.mint_token('ann', role='admin').secret}"}
    assert http.delete("/v1/people/ann", headers=headers).status_code == 422
    assert http.delete("/v1/people/nobody", headers=headers).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("/v1/jobs", NOOP, NOOP | {"priority": 1}),
        ("/v1/searches", {"kernel": GEMM}, {"kernel": GEMM, "budget_s": 7.0}),
        ("/v1/tokens", {"name": "ann"}, {"name": "bob"}),
        ("/v1/join-tokens", {"ttl_s": 60.0}, {"ttl_s": 61.0}),
        ("/v1/crons", CRON, CRON | {"schedule": "@hourly"}),
        ("/v1/webhooks", WEBHOOK, WEBHOOK | {"kinds": ["node.lost"]}),
    ],
)
def test_a_key_makes_one_row_however_often_and_at_once_it_is_sent(
    served: Served, bearer: Callable[[str], Bearer], path: str, body: object, other: object
) -> None:
    headers = bearer("admin") | {"Idempotency-Key": "the same"}

    def send(_: int) -> httpx.Response:
        return httpx.post(f"{served.url}{path}", json=body, headers=headers, timeout=30)

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(send, range(8)))
    made = [reply for reply in replies if reply.status_code == 201]
    if "token" in path or "webhook" in path:  # the secret cannot be shown again
        assert len(made) == 1
        assert {reply.status_code for reply in replies} == {201, 409}
    else:
        assert len({reply.json()["id"] for reply in made}) == 1
        assert len(made) == 8
    conflict = httpx.post(f"{served.url}{path}", json=other, headers=headers)
    assert (conflict.status_code, conflict.json()["type"]) == (
        422,
        "urn:tinyfleet:problem:idempotency-conflict",
    )


def test_every_post_that_creates_takes_a_key() -> None:
    creating = {
        name for name, route in ROUTES.items() if name.startswith("POST") and route.status_code == 201
    }
    with_key = {
        name
        for name in creating
        if any(each.alias == "Idempotency-Key" for each in ROUTES[name].dependant.header_params)
    }
    assert creating - with_key == {
        "POST /v1/agents/enroll"
    }  # its join token is the key: repeated, it answers the same


def test_a_node_shows_a_tenant_only_its_own_data_sets(
    http: TestClient, client: Client, stranger: Bearer, agent: Agent
) -> None:
    """Their addresses are what opens them."""
    listed = DataList(files=[DataFile(path="a", size=7, parts=[client.put_blob(b"content")])])
    address = client.put_data_set(listed).address
    agent.sync(data=[{"data_set": address, "bytes": 7}])
    assert client.node(agent.node_id).data_sets == {address: 7}
    [theirs] = http.get("/v1/nodes", headers=stranger).json()["items"]
    assert theirs["data_sets"] == {}
    assert http.get(f"/v1/nodes/{agent.node_id}", headers=stranger).json()["data_sets"] == {}


def test_for_whom_a_node_is_kept_is_nobody_elses_business(
    http: TestClient, client: Client, stranger: Bearer, parts: Parts, agent: Agent
) -> None:
    with parts.read() as session:
        ends_at = now(session) + 3600.0
    made = client.add_window([agent.node_id], ends_at, tenant="default", reason="secret plan")
    assert (made.tenant, made.reason) == ("default", "secret plan")
    [seen] = http.get("/v1/windows", headers=stranger).json()["items"]
    assert (seen["kind"], seen["tenant"], seen["reason"], seen["created_by"]) == ("reservation", None, "", "")
    told = http.get("/v1/events?after=0", headers=stranger).text
    assert "node.reservation" in told
    assert "default" not in told


def test_quarantined_source_is_its_finders(
    http: TestClient, client: Client, stranger: Bearer, parts: Parts, ours: dict[str, object], agent: Agent
) -> None:
    with parts.write() as session:
        session.add(
            models.Quarantine(
                kernel_hash="0" * 64,
                target_id="cpu",
                threads=1,
                schedule=[],
                schedule_hash="1" * 64,
                outcome="crashed",
                detail="",
                source_blob=None,
                search_id=int(str(ours["search"])),
                node_id=agent.node_id,
                created_at=now(session),
            )
        )
    assert len(client.quarantine().items) == 1
    assert http.get("/v1/quarantine", headers=stranger).json()["items"] == []


def test_what_is_for_the_home_tenant_alone_says_so(http: TestClient, stranger: Bearer) -> None:
    """An administrator who is told that administrators may would look for the fault elsewhere."""
    reply = http.post("/v1/join-tokens", headers=stranger)
    assert reply.status_code == 403
    assert reply.json()["detail"].endswith("the tenant default's alone; your token is of other")


def test_a_removed_persons_array_makes_no_more_jobs(http: TestClient, client: Client, parts: Parts) -> None:
    ann = {"Authorization": f"Bearer {client.mint_token('ann').secret}"}
    asked = {"spec": {"kind": "noop"}, "size": 1000, "parallel": 8}
    array = http.post("/v1/arrays", json=asked, headers=ann).json()["id"]
    parts.controllers.tick()
    before = client.array(array)
    removed = client.remove_person("ann")
    assert (removed.arrays, removed.jobs) == (1, 0)
    for _ in range(3):
        parts.controllers.tick()
    after = client.array(array)
    assert after.cancelled_at is not None
    assert before.states == {"queued": 8}
    assert after.states == {"cancelled": 8}
