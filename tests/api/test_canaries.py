"""What one tenant has written is shown to no other, by whatever route and however the ids are guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from fleet import tenants
from fleet.db import now
from tests.api.agent import Agent, exited, running
from tests.api.searching import GEMM
from tests.api.test_access import ROUTES
from tests.sshkeys import public_key

CANARY = "c4n4ry"
VALUE = "v4lue-of-a-secret"
Bearer = dict[str, str]
ENDLESS = {"/v1/events/stream", "/v1/jobs/{job_id}/logs/stream"}
GUESSES = {"site": "lab", "rack": "r1", "model": "small"}
# Who owns the machines decides about everybody's logins, ends everybody's tokens, and has every tenant's crons in /metrics.
OWNERS = {"/v1/grants", "/v1/grants/1", "/v1/ssh-keys", "/v1/tokens", "/metrics"}

pytestmark = pytest.mark.slow


def administrator(parts: Parts, name: str, tenant: str) -> Bearer:
    with parts.write() as session:
        secret = tenants.mint(session, name=name, role="admin", now=now(session), tenant=tenant)[1]
    return {"Authorization": f"Bearer {secret}"}


def fill(http: TestClient, headers: Bearer, agent: Agent, parts: Parts) -> None:
    """One row of each kind, with the canary wherever a tenant may write."""

    def does(method: str, path: str, body: object = None) -> dict[str, object]:
        reply = http.request(method, path, json=body, headers=headers)
        assert reply.status_code < 300, (path, reply.text)
        found: dict[str, object] = reply.json()
        return found

    command = {
        "kind": "command",
        "argv": ["echo", CANARY],
        "env": {"NAME": CANARY},
        "secrets": {"TOKEN": CANARY},
    }
    does("PUT", f"/v1/secrets/{CANARY}", {"value": VALUE})
    job = does("POST", "/v1/jobs", {"spec": command, "priority": 100})
    parts.controllers.tick()
    [attempt] = [each for each in agent.sync().attempts if each.spec.kind == "command"]
    agent.sync(attempts=[running(attempt) | {"progress": {"said": CANARY}}])
    agent.log(attempt, 0, f"{CANARY} in the log\n".encode())
    does("POST", "/v1/jobs", {"spec": command, "after": [job["id"]]})
    does("POST", "/v1/arrays", {"spec": command, "size": 2})
    does("POST", "/v1/searches", {"kernel": GEMM})
    does("POST", "/v1/crons", {"name": CANARY, "schedule": "@daily", "job": {"spec": command}})
    does("POST", "/v1/webhooks", {"name": CANARY, "url": f"https://93.184.216.34/{CANARY}", "kinds": ["*"]})
    does("POST", "/v1/tokens", {"name": f"ann-{CANARY}"})
    key = does("POST", "/v1/ssh-keys", {"public_key": f"{public_key(7).line} {CANARY}"})
    does("POST", "/v1/grants", {"node": agent.node_id, "reason": CANARY, "key": key["id"]})
    agent.sync(attempts=[exited(attempt, "failed", error=f"because {CANARY}", result={"said": CANARY})])
    parts.controllers.tick()


@pytest.mark.parametrize(
    ("writer", "reader", "expected"), [("default", "other", set()), ("other", "default", OWNERS)]
)
def test_nothing_that_a_tenant_wrote_is_shown_to_another(
    http: TestClient, parts: Parts, agent: Agent, writer: str, reader: str, expected: set[str]
) -> None:
    theirs = administrator(parts, f"mallory-{CANARY}", writer)
    mine = administrator(parts, "eve", reader)
    fill(http, theirs, agent, parts)
    assert {path for path, text in everything(http, mine) if CANARY in text} == expected
    shown_to_themselves = {path for path, text in everything(http, theirs) if CANARY in text}
    assert len(shown_to_themselves) >= 18, "the canary is where it is looked for"
    assert not [path for path, text in everything(http, theirs) if VALUE in text]


def everything(http: TestClient, headers: Bearer) -> Iterator[tuple[str, str]]:
    """Every read, by guessed ids."""
    for route in ROUTES:
        method, path = route.split(" ")
        if method != "GET" or path in ENDLESS:
            continue
        for place in range(1, 6):
            filled = re.sub(r"{(\w+)}", lambda found, at=place: GUESSES.get(found[1], str(at)), path)
            query = "?after=0&limit=200" if path == "/v1/events" else ""
            yield filled, http.get(filled + query, headers=headers).text
            if filled == path:
                break
