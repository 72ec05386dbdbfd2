"""Who may use which route: every route, with every kind of token and with none."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from api.app import JOINING, PUBLIC, ROUTERS, UndeclaredAccess, api_routes, check_declared
from api.auth import allowed_roles
from api.deps import Parts
from fleet.agents.client import Signed
from tests.api.agent import Agent

ROUTES = {f"{method} {route.path}": route for route in api_routes(ROUTERS) for method in route.methods or ()}
AGENTS_ONLY = {
    "POST /v1/agents/sync",
    "POST /v1/agents/keys",
    "PUT /v1/agents/attempts/{attempt_id}/logs",
}
NODES_TOO = {"GET /v1/whoami", "GET /v1/blobs/{hash}", "HEAD /v1/blobs/{hash}", "PUT /v1/blobs/{hash}"}
GUARDED = {name for name, route in ROUTES.items() if route.path not in PUBLIC}
JOIN = {name for name, route in ROUTES.items() if route.path in JOINING}
READS = {name for name in GUARDED if name.startswith(("GET", "HEAD"))} - {"GET /v1/tokens"}


def status(http: TestClient, name: str, headers: dict[str, str], auth: Signed | None = None) -> int:
    """The status of a request to a route with nothing right about it but, perhaps, the permission."""
    method, path = name.split(" ")
    path = re.sub(r"{\w+}", "999", path.replace("{hash}", "0" * 64))  # no such thing: nothing is changed
    body = {} if method in ("POST", "PUT") else None
    return http.request(
        method, path, headers=headers, json=body, params={"offset": 0, "fence": 0}, auth=auth
    ).status_code


def statuses(http: TestClient, secret: str) -> dict[str, int]:
    """What a token's holder gets from every guarded route."""
    headers = {"Authorization": f"Bearer {secret}"}
    return {name: status(http, name, headers) for name in GUARDED - JOIN}


def refused(http: TestClient, secret: str) -> set[str]:
    """The guarded routes that refuse a token's role."""
    return {name for name, found in statuses(http, secret).items() if found == 403}


@pytest.fixture(autouse=True)
def _streams_end(parts: Parts) -> None:
    parts.waits.close()  # else an event stream that was permitted would never end


def test_every_route_without_a_token_is_401(http: TestClient) -> None:
    assert {name for name in GUARDED if status(http, name, {}) != 401} == set()


@pytest.mark.parametrize("header", ["Bearer tfu_nonsense", "Bearer ", "Basic cm9vdDpyb290", "tfu_nonsense"])
def test_every_route_with_a_false_token_is_401(http: TestClient, header: str) -> None:
    headers = {"Authorization": header}
    assert {name for name in GUARDED - JOIN if status(http, name, headers) != 401} == set()


def test_a_viewer_reads_and_changes_nothing(http: TestClient, secret: Callable[[str], str]) -> None:
    assert refused(http, secret("viewer")) == GUARDED - JOIN - READS


def test_a_user_works_and_administers_nothing(http: TestClient, secret: Callable[[str], str]) -> None:
    allowed = {
        "POST /v1/jobs",
        "POST /v1/jobs/{job_id}/cancel",
        "POST /v1/searches",
        "POST /v1/searches/{search_id}/cancel",
        "PUT /v1/blobs/{hash}",
    }
    assert refused(http, secret("user")) == GUARDED - JOIN - READS - allowed


def test_an_administrator_is_no_node(http: TestClient, secret: Callable[[str], str]) -> None:
    assert refused(http, secret("admin")) == AGENTS_ONLY


def test_a_node_reaches_its_own_routes_only(http: TestClient, agent: Agent) -> None:
    found = {name for name in GUARDED - JOIN if status(http, name, {}, agent.auth) == 403}
    assert found == GUARDED - JOIN - AGENTS_ONLY - NODES_TOO


def test_a_permitted_request_is_never_taken_for_a_bug(http: TestClient, secret: Callable[[str], str]) -> None:
    assert {name for name, found in statuses(http, secret("admin")).items() if found >= 500} == set()


def test_the_public_routes_are_the_two_about_health(http: TestClient) -> None:
    answers = {name: status(http, name, {}) for name in ROUTES.keys() - GUARDED}
    assert answers == {"GET /livez": 200, "GET /readyz": 200}


def test_a_revoked_token_is_refused_at_once(
    http: TestClient, secret: Callable[[str], str], bearer: Callable[[str], dict[str, str]]
) -> None:
    mine, admin = bearer("user"), bearer("admin")
    token_id = http.get("/v1/whoami", headers=mine).json()["id"]
    assert http.delete(f"/v1/tokens/{token_id}", headers=admin).status_code == 200
    reply = http.get("/v1/whoami", headers=mine)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_a_route_that_declares_nobody_stops_the_start() -> None:
    router = APIRouter()

    @router.get("/v1/forgotten")
    def forgotten() -> None:
        """Nobody said who may use this."""

    with pytest.raises(UndeclaredAccess, match="/v1/forgotten"):
        check_declared([router])


def test_every_guarded_route_declares_its_roles() -> None:
    assert {name for name in GUARDED - JOIN if not allowed_roles(ROUTES[name])} == set()
    assert all(isinstance(route, APIRoute) for route in ROUTES.values())
