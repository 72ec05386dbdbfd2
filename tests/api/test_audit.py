"""Every mutation leaves exactly one row in the audit; a refused one leaves none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient
from typer.testing import CliRunner

from api.app import ROUTERS, api_routes
from api.cli import app as cli
from api.deps import Parts
from fleet import forges, models, tenants
from fleet.client import Client
from fleet.db import now
from tests.api import auditing
from tests.api.agent import Agent
from tests.api.searching import GEMM
from tests.parts import need
from tests.sshkeys import public_key

MUTATIONS = {
    f"{method} {route.path}"
    for route in api_routes(ROUTERS)
    for method in route.methods or ()
    if method not in ("GET", "HEAD")
}
# Reports of agents are events; content-addressed bytes are nobody's statement.
UNAUDITED = {
    "PUT /v1/agents/metrics",
    "POST /v1/agents/sync",
    "POST /v1/agents/keys",
    "PUT /v1/agents/attempts/{attempt_id}/logs",
    "PUT /v1/blobs/{hash}",
}
NOOP = {"spec": {"kind": "noop"}}


def rows(parts: Parts) -> list[str]:
    """The actions in the audit, in order."""
    with parts.read() as session:
        return list(session.scalars(select(models.Audit.action).order_by(models.Audit.id)))


@dataclass
class Acting:
    """An administrator's requests, and the routes that they went to."""

    http: TestClient
    headers: dict[str, str]
    parts: Parts
    seen: set[str]

    def does(self, route: str, body: object = None, **ids: object) -> int:
        """Send a request to a route; returns the number of rows that it left in the audit."""
        method, path = route.split(" ")
        before = len(rows(self.parts))
        reply = self.http.request(method, path.format(**ids), json=body, headers=self.headers)
        assert reply.status_code < 300, reply.text
        self.seen.add(route)
        self.last = reply.json() if reply.content else None
        return len(rows(self.parts)) - before


def test_every_mutation_leaves_exactly_one_row(
    parts: Parts, http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    need("ssh-keygen", install="openssh-client")
    act = Acting(http, bearer("admin"), parts, set())
    counts: dict[str, int] = {}

    def does(route: str, body: object = None, **ids: object) -> int:
        counts[route] = act.does(route, body, **ids)
        return int((act.last or {}).get("id", 0))

    does("POST /v1/join-tokens")
    before = len(rows(parts))
    agent = Agent.enrolled(http, act.last["secret"])  # type: ignore[index]
    counts["POST /v1/agents/enroll"] = len(rows(parts)) - before
    node = client.nodes().items[0].id
    for verb in ("cordon", "uncordon", "drain", "readmit"):
        does(f"POST /v1/nodes/{{node_id}}/{verb}", node_id=node)
    does("POST /v1/nodes/{node_id}/trust", {"trust": "shared", "reason": "a test"}, node_id=node)
    does("POST /v1/kernels/purge", {"node": node})
    does("POST /v1/jobs/{job_id}/cancel", job_id=does("POST /v1/jobs", NOOP))
    does("POST /v1/searches/{search_id}/cancel", search_id=does("POST /v1/searches", {"kernel": GEMM}))
    does("POST /v1/gc", {})
    hook = does("POST /v1/webhooks", {"name": "chat", "url": "https://93.184.216.34/", "kinds": ["cron.*"]})
    sent = does("POST /v1/webhooks/{webhook_id}/test", webhook_id=hook)
    _settled(parts, sent)
    anew = "POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"
    does(anew, webhook_id=hook, delivery_id=sent)
    _disabled(parts, hook)
    for verb in ("enable", "rotate"):
        does(f"POST /v1/webhooks/{{webhook_id}}/{verb}", webhook_id=hook)
    does("DELETE /v1/webhooks/{webhook_id}", webhook_id=hook)
    cron = {"name": "nightly", "schedule": "@daily", "job": NOOP, "watch": [{"name": "loss"}]}
    cron_id = does("POST /v1/crons", cron)
    for verb, body in (("run", None), ("pause", None), ("resume", None), ("accept", {"series": "loss"})):
        does(f"POST /v1/crons/{{cron_id}}/{verb}", body, cron_id=cron_id)
    does("PATCH /v1/crons/{cron_id}", {"schedule": "@hourly"}, cron_id=cron_id)
    does("DELETE /v1/crons/{cron_id}", cron_id=cron_id)
    does("DELETE /v1/tokens/{token_id}", token_id=does("POST /v1/tokens", {"name": "ann"}))
    does("POST /v1/nodes/{node_id}/retire", node_id=_drained(parts, node))
    assert agent is not None
    _others(does)
    auditing.jobs(does)
    auditing.data_sets(does, client)
    second = Agent.enrolled(http, client.join_token().secret, "tiny2")
    auditing.inside(does, parts, second)
    auditing.places(does, second.node_id)
    auditing.health(does, second)
    auditing.logins(does, parts, second.node_id)
    auditing.updates(does, parts, tmp_path / "built")
    counts["POST /v1/ssh-keys/import"] = _imported(parts, client)
    assert {route: count for route, count in counts.items() if count != 1} == {}
    assert counts.keys() == MUTATIONS - UNAUDITED


def _others(does: Callable[..., int]) -> None:
    """The mutations of other nouns."""
    does("PUT /v1/secrets/{secret}", {"value": "hidden"}, secret="hook")
    does("DELETE /v1/secrets/{secret}", secret="hook")
    does("POST /v1/tokens", {"name": "bob"})
    does("DELETE /v1/people/{name}", name="bob")


def _imported(parts: Parts, client: Client) -> int:
    """Rows of what the route does once a forge has answered: no test asks one."""
    before = len(rows(parts))
    with parts.write() as session:
        who = tenants.authenticate(
            session, tenants.mint(session, name="carl", role="user", now=now(session))[1], now(session)
        )
        forges.take(
            session, "github.com", "carl", [public_key(2).line, public_key(3).line], who, now(session)
        )
    return len(rows(parts)) - before


def _settled(parts: Parts, delivery: int) -> None:
    with parts.write() as session:
        session.get_one(models.Delivery, delivery).state = "dead"


def _disabled(parts: Parts, webhook: int) -> None:
    with parts.write() as session:
        session.get_one(models.Webhook, webhook).disabled_at = 1.0


def _drained(parts: Parts, node: int) -> int:
    with parts.write() as session:
        session.get_one(models.Node, node).state = "drained"
    return node


def test_a_refused_mutation_leaves_no_row(
    parts: Parts, http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    before = rows(parts)
    for role, path, body in [
        ("viewer", "/v1/jobs", NOOP),
        ("user", "/v1/jobs", NOOP | {"node": 77}),
        ("user", "/v1/tokens", {"name": "eve", "role": "admin"}),
        ("admin", "/v1/nodes/77/cordon", None),
        ("admin", "/v1/jobs/77/cancel", None),
    ]:
        assert http.post(path, json=body, headers=bearer(role)).status_code in (403, 404, 422)
    assert rows(parts) == before


def test_the_leader_seals_and_the_command_verifies(parts: Parts, client: Client) -> None:
    client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    data = str(parts.settings.fleet.data)
    run = CliRunner()
    found = run.invoke(cli, ["audit", "verify", "--data", data])
    assert (found.exit_code, found.stdout) == (0, "the audit is whole: 1 rows\n")
    anchor = run.invoke(cli, ["audit", "anchor", "--data", data]).stdout
    assert json.loads(anchor)["number"] == 1
    assert parts.settings.fleet.anchors_file.read_text().count("\n") == 1
    with parts.write() as session:
        session.connection().exec_driver_sql("DROP TRIGGER audit_no_update")
        session.connection().exec_driver_sql("UPDATE audit SET principal = 'user:eve'")
    broken = run.invoke(cli, ["audit", "verify", "--data", data])
    assert broken.exit_code == 1
    assert "row 1 of the audit is not the one that was sealed" in broken.stdout


def test_without_its_key_nothing_is_verified(tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    found = CliRunner().invoke(cli, ["audit", "verify", "--data", str(empty)])
    assert found.exit_code == 2
    assert "audit-key" in found.stderr
