"""Who may use which route: every route, with every kind of token and with none."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from api.app import ROUTERS, api_routes
from api.auth import permission_of
from api.deps import Parts
from api.routing import JOINING, PUBLIC, Router, UndeclaredAccess
from fleet import tenants
from fleet.agents.client import Signed
from fleet.client import Client
from fleet.db import now
from fleet.permissions import Permission
from tests.api.agent import Agent
from tests.whole import ROOT

ROUTES = {f"{method} {route.path}": route for route in api_routes(ROUTERS) for method in route.methods or ()}
# Every route has an entry, here or among the two kinds that take no principal: written down a second time, so that a
# permission that is changed by mistake is found.
MATRIX = {
    Permission.WHOAMI: {
        "GET /v1/whoami",
    },
    Permission.READ: {
        "GET /v1/nodes",
        "GET /v1/nodes/{node_id}/acceptance",
        "GET /v1/acceptances",
        "GET /v1/box-models",
        "GET /v1/box-models/{model}",
        "GET /v1/nodes/{node_id}",
        "GET /v1/jobs",
        "GET /v1/jobs/{job_id}",
        "GET /v1/jobs/{job_id}/attempts",
        "GET /v1/jobs/{job_id}/logs",
        "GET /v1/jobs/{job_id}/why",
        "GET /v1/arrays",
        "GET /v1/arrays/{array_id}",
        "GET /v1/tenants",
        "GET /v1/windows",
        "GET /v1/usage",
        "GET /v1/crons",
        "GET /v1/crons/{cron_id}",
        "GET /v1/crons/{cron_id}/runs",
        "GET /v1/crons/{cron_id}/series",
        "GET /v1/jobs/{job_id}/logs/stream",
        "GET /v1/jobs/{job_id}/log-chunks",
        "GET /v1/data-sets",
        "GET /v1/searches",
        "GET /v1/searches/{search_id}",
        "GET /v1/searches/{search_id}/rounds",
        "GET /v1/searches/{search_id}/candidates",
        "GET /v1/kernels",
        "GET /v1/kernels/{kernel_id}",
        "GET /v1/kernels/{kernel_id}/source",
        "GET /v1/quarantine",
        "GET /v1/events",
        "GET /v1/events/stream",
        "GET /v1/openapi.json",
        "GET /v1/releases",
        "GET /v1/updates",
        "GET /v1/racks",
        "GET /v1/telemetry",
        "GET /v1/nodes/{node_id}/telemetry",
        "GET /v1/ssh/hosts",
        "GET /v1/ssh/hosts/{node_id}",
    },
    Permission.METRICS: {
        "GET /metrics",
        "GET /v1/discovery/prometheus",
        "GET /v1/nodes/{node_id}/metrics",
    },
    Permission.FETCH: {
        "GET /v1/blobs/{hash}",
        "HEAD /v1/blobs/{hash}",
    },
    Permission.UPLOAD: {
        "PUT /v1/blobs/{hash}",
        "PUT /v1/data-sets/{data_set}",
        "DELETE /v1/data-sets/{data_set}",
    },
    Permission.WORK: {
        "POST /v1/jobs",
        "POST /v1/jobs/{job_id}/cancel",
        "POST /v1/jobs/{job_id}/exec",
        "POST /v1/jobs/{job_id}/clone",
        "POST /v1/jobs/{job_id}/retry",
        "POST /v1/jobs/batch",
        "POST /v1/arrays",
        "POST /v1/arrays/{array_id}/cancel",
        "POST /v1/crons",
        "PATCH /v1/crons/{cron_id}",
        "POST /v1/crons/{cron_id}/run",
        "POST /v1/crons/{cron_id}/pause",
        "POST /v1/crons/{cron_id}/resume",
        "POST /v1/crons/{cron_id}/accept",
        "DELETE /v1/crons/{cron_id}",
        "POST /v1/searches",
        "POST /v1/searches/{search_id}/cancel",
    },
    Permission.OPERATE: {
        "POST /v1/nodes/{node_id}/cordon",
        "POST /v1/updates/pause",
        "POST /v1/nodes/{node_id}/uncordon",
        "POST /v1/nodes/{node_id}/drain",
        "POST /v1/nodes/{node_id}/acceptance",
        "PUT /v1/box-models/{model}",
        "DELETE /v1/box-models/{model}",
        "GET /v1/boxes",
        "GET /v1/boxes/counts",
        "GET /v1/boxes/{box_id}",
        "POST /v1/boxes",
        "PATCH /v1/boxes/{box_id}",
        "POST /v1/nodes/{node_id}/gpus/{gpu}/retest",
        "PUT /v1/nodes/{node_id}/place",
        "PUT /v1/racks/{site}/{rack}",
        "PUT /v1/nodes/{node_id}/labels",
        "POST /v1/windows",
        "DELETE /v1/windows/{window_id}",
    },
    Permission.TRUST: {
        "POST /v1/nodes/{node_id}/retire",
        "PUT /v1/updates",
        "POST /v1/updates/promote",
        "POST /v1/nodes/{node_id}/trust",
        "POST /v1/nodes/{node_id}/readmit",
        "POST /v1/kernels/purge",
    },
    Permission.JOIN: {
        "POST /v1/join-tokens",
    },
    Permission.TOKENS: {
        "GET /v1/tokens",
        "POST /v1/tokens",
        "DELETE /v1/tokens/{token_id}",
    },
    Permission.COLLECT: {
        "POST /v1/gc",
    },
    Permission.WEBHOOKS: {
        "GET /v1/webhooks",
        "POST /v1/webhooks",
        "GET /v1/webhooks/{webhook_id}",
        "DELETE /v1/webhooks/{webhook_id}",
        "POST /v1/webhooks/{webhook_id}/enable",
        "POST /v1/webhooks/{webhook_id}/rotate",
        "POST /v1/webhooks/{webhook_id}/test",
        "GET /v1/webhooks/{webhook_id}/deliveries",
        "POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
    },
    Permission.QUOTAS: {
        "PUT /v1/tenants/{tenant}/quota",
    },
    Permission.SECRETS: {
        "GET /v1/secrets",
        "PUT /v1/secrets/{secret}",
        "DELETE /v1/secrets/{secret}",
    },
    Permission.ACCESS: {
        "GET /v1/ssh-keys",
        "POST /v1/ssh-keys",
        "POST /v1/ssh-keys/import",
        "DELETE /v1/ssh-keys/{key_id}",
        "GET /v1/grants",
        "POST /v1/grants",
        "GET /v1/grants/{grant_id}",
        "POST /v1/grants/{grant_id}/revoke",
        "POST /v1/grants/{grant_id}/certificate",
    },
    Permission.GRANT: {
        "POST /v1/grants/{grant_id}/approve",
        "POST /v1/grants/{grant_id}/deny",
    },
    Permission.PEOPLE: {
        "DELETE /v1/people/{name}",
    },
    Permission.REPORT: {
        "POST /v1/agents/sync",
        "POST /v1/agents/keys",
        "PUT /v1/agents/metrics",
        "PUT /v1/agents/attempts/{attempt_id}/logs",
        "GET /v1/agents/attempts/{attempt_id}/secrets",
    },
}
GUARDED = {name for name, route in ROUTES.items() if route.path not in PUBLIC}
JOIN = {name for name, route in ROUTES.items() if route.path in JOINING}
ROLES: dict[str, set[str]] = {
    "viewer": {"whoami", "read", "metrics", "fetch"},
    "user": {"whoami", "read", "metrics", "fetch", "work", "upload", "access"},
    "operator": {"whoami", "read", "metrics", "fetch", "work", "upload", "access", "operate"},
    "admin": set(Permission) - {"report"},
    "node": {"whoami", "fetch", "upload", "report"},
    "another tenant's admin": set(Permission)
    - {"report", "metrics", "operate", "trust", "join", "grant", "quotas", "collect"},
    "admin, narrowed to read": {"whoami", "read"},
}
# Those who have no role, each with the test that asks every route as them.
OTHERS = ("no token", "a false token", "an expired token", "a revoked token", "a token for joining")


def reached(permissions: set[str]) -> set[str]:
    """The guarded routes of these permissions."""
    return {name for permission in permissions for name in MATRIX.get(Permission(permission), ())}


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


def test_every_route_has_an_entry_in_the_matrix_and_declares_it() -> None:
    entries = {name: permission for permission, names in MATRIX.items() for name in names}
    assert entries.keys() | JOIN == GUARDED
    assert {name: permission_of(ROUTES[name]) for name in entries} == entries


@pytest.fixture
def secrets(parts: Parts, secret: Callable[[str], str]) -> dict[str, str]:
    """The secrets of every kind of token that is valid, by the name of its row in ROLES."""
    with parts.write() as session:
        moment = now(session)
        other = tenants.mint(session, name="eve", role="admin", now=moment, tenant="other")[1]
        narrow = tenants.mint(session, name="ci", role="admin", now=moment, scopes=["read"])[1]
    found = {role: secret(role) for role in tenants.MINTED}
    return found | {"another tenant's admin": other, "admin, narrowed to read": narrow}


@pytest.mark.parametrize("identity", [name for name in ROLES if name != "node"])
def test_each_identity_reaches_its_routes_and_no_others(
    http: TestClient, secrets: dict[str, str], identity: str
) -> None:
    assert GUARDED - JOIN - refused(http, secrets[identity]) == reached(ROLES[identity])


def test_no_token_that_has_ended_or_is_for_joining_reaches_anything(
    http: TestClient, parts: Parts, secret: Callable[[str], str], client: Client
) -> None:
    with parts.write() as session:
        moment = now(session)
        expired = tenants.mint(session, name="old", role="admin", now=moment - 10.0, ttl_s=5.0)[1]
        token, revoked = tenants.mint(session, name="gone", role="admin", now=moment)
        tenants.end(session, token, moment)
    ended = dict(zip(OTHERS[2:], (expired, revoked, client.join_token().secret), strict=True))
    assert {name: set(statuses(http, each).values()) for name, each in ended.items()} == {
        name: {401} for name in ended
    }


def test_the_identities_are_as_many_as_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"every route × method × {len(ROLES) + len(OTHERS)} identities" in readme


def test_a_node_reaches_its_own_routes_only(http: TestClient, agent: Agent) -> None:
    found = {name for name in GUARDED - JOIN if status(http, name, {}, agent.auth) == 403}
    assert GUARDED - JOIN - found == reached(ROLES["node"])


def test_a_permitted_request_is_never_taken_for_a_bug(http: TestClient, secret: Callable[[str], str]) -> None:
    assert {name for name, found in statuses(http, secret("admin")).items() if found >= 500} == set()


def test_the_public_routes_are_those_about_health_and_for_machines_that_are_no_nodes_yet(
    http: TestClient,
) -> None:
    answers = {name: status(http, name, {}) for name in ROUTES.keys() - GUARDED}
    assert answers == {
        "GET /livez": 200,
        "GET /readyz": 200,
        "GET /install.sh": 422,  # what is asked here has parameters that are none of theirs
        "GET /v1/releases/{version}/{file}": 422,
    }


def test_a_revoked_token_is_refused_at_once(
    http: TestClient, secret: Callable[[str], str], bearer: Callable[[str], dict[str, str]]
) -> None:
    mine, admin = bearer("user"), bearer("admin")
    token_id = http.get("/v1/whoami", headers=mine).json()["id"]
    assert http.delete(f"/v1/tokens/{token_id}", headers=admin).status_code == 200
    reply = http.get("/v1/whoami", headers=mine)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_a_route_that_declares_nobody_cannot_be_registered() -> None:
    router = Router()

    def forgotten() -> None:
        """Nobody said who may use this."""

    with pytest.raises(UndeclaredAccess, match="/v1/forgotten"):
        router.get("/v1/forgotten")(forgotten)


def test_every_router_is_one_that_refuses() -> None:
    assert [router for router in ROUTERS if not isinstance(router, Router)] == []
