"""Who may not ask is told so before anything of the body is read."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.testclient import TestClient

from api.app import ROUTERS, api_routes
from api.auth import Reader, Writer, permission_of
from api.body import WAITED_S
from api.routing import PUBLIC, Router, UndeclaredAccess
from api.waits import EVENTS
from fleet.agents.signature import SCHEME, parse
from fleet.db import now
from fleet.models import Token
from fleet.permissions import ROLES, Permission
from fleet.tenants import end, mint
from tests.api.agent import Agent
from tests.api.conftest import Served
from tests.whole import until

# What a reader of the body would complain of, each differently.
BODIES = {"no JSON": b"{", "repeated": b'{"a": 1, "a": 2}', "nested": b"[" * 10_000, "no fields": b"[]"}
JSON = {"Content-Type": "application/json"}
ROUTES = [
    (method, re.sub(r"\{[^}]*\}", "1", route.path), permission_of(route))
    for route in api_routes(ROUTERS)
    for method in sorted(route.methods or ())
    if route.path not in PUBLIC and method in ("POST", "PUT", "PATCH", "DELETE")
]
ENROLL = ("POST", "/v1/agents/enroll", None)


def test_all_that_writes_is_tried() -> None:
    assert len(ROUTES) > 60
    assert ENROLL in ROUTES


@pytest.mark.parametrize("content", BODIES.values(), ids=BODIES)
def test_a_stranger_hears_of_no_field(http: TestClient, content: bytes) -> None:
    for headers in (JSON, JSON | {"Authorization": "Bearer tfu_made_up"}):
        for method, path, _ in ROUTES:
            expected = 403 if (method, path) == ENROLL[:2] and len(headers) == 2 else 401
            reply = http.request(method, path, content=content, headers=headers)
            assert reply.status_code == expected, (method, path, reply.text)


def test_whoever_may_not_use_a_route_hears_of_no_field(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    viewer = bearer("viewer") | JSON
    closed = [each for each in ROUTES if each[2] is not None and each[2] not in ROLES["viewer"]]
    assert len(closed) > 50
    for method, path, _ in closed:
        assert http.request(method, path, content=b"{", headers=viewer).status_code == 403, (method, path)


def test_a_forged_signature_is_refused_before_the_body_is_read(http: TestClient) -> None:
    moment, zeros = int(time.time() * 1000), "0" * 64
    forged = f"{SCHEME} key={zeros}, time={moment}, nonce={zeros[:32]}, digest={zeros}, signature={zeros * 2}"
    parse(forged)
    for method, path, permission in ROUTES:
        if permission is Permission.REPORT:
            reply = http.request(method, path, content=b"{", headers=JSON | {"Authorization": forged})
            assert reply.status_code == 401, (method, path, reply.text)


def test_a_stranger_who_sends_much_still_reads_the_answer(served: Served) -> None:
    reply = httpx.post(
        f"{served.url}/v1/jobs/batch", content=b"[" + b"[]," * (1 << 20) + b"[]]", headers=JSON
    )
    assert reply.status_code == 401


def test_a_route_with_two_gates_is_refused() -> None:
    """The second would find the nonce of a node's signature spent."""

    def twice(one: Reader, other: Writer) -> None:
        """Either may use this."""

    with pytest.raises(UndeclaredAccess, match="/v1/twice declares more than one"):
        Router().get("/v1/twice")(twice)


def test_every_answer_is_to_whoever_asked_on_a_connection_that_is_kept(
    served: Served, bearer: Callable[[str], dict[str, str]]
) -> None:
    asked = [bearer("admin"), bearer("viewer"), {}, bearer("viewer"), bearer("admin"), {}]
    with httpx.Client(base_url=served.url) as kept:
        replies = [kept.get("/v1/whoami", headers=headers) for headers in asked]
        forbidden = [
            kept.post("/v1/jobs", content=b"{", headers=JSON | headers).status_code for headers in asked
        ]
    assert [reply.json().get("role") for reply in replies] == [
        "admin",
        "viewer",
        None,
        "viewer",
        "admin",
        None,
    ]
    assert forbidden == [422, 403, 401, 403, 422, 401]


def test_a_node_that_may_not_is_told_so_before_its_body_is_read(http: TestClient, agent: Agent) -> None:
    """A signature covers the head: who it is and what for is known before the body, which is not the one that was signed."""
    for method, path, permission in ROUTES:
        if permission is not None and permission not in ROLES["node"]:
            headers = JSON | agent.pen.headers(method, path, b"signed")
            reply = http.request(method, path, content=b"sent", headers=headers)
            assert reply.status_code == 403, (method, path, reply.text)


def test_a_token_that_is_revoked_while_it_waits_sees_no_more(served: Served) -> None:
    with served.parts.write() as session:
        token, secret = mint(session, name="eve", role="viewer", now=now(session))
    headers = {"Authorization": f"Bearer {secret}"}
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(
            httpx.get,
            f"{served.url}/v1/events",
            params={"after": 10**6, "wait": 3},
            headers=headers,
            timeout=30,
        )
        until(lambda: served.parts.waits.listening(EVENTS), "it waits")
        time.sleep(WAITED_S)
        with served.parts.write() as session:
            end(session, session.get_one(Token, token.id), now(session))
        assert waiting.result().status_code == 401
