from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from fleet import tenants
from fleet.client import ApiError, Client
from fleet.db import now
from tests.api.conftest import Bridge


def test_a_minted_token_speaks_for_its_holder(http: TestClient, client: Client) -> None:
    minted = client.mint_token("ci", role="viewer", kind="service", ttl_s=60)
    assert minted.secret.startswith("tfs_")
    assert minted.expires_at is not None
    with Client("http://127.0.0.1", minted.secret, transport=Bridge(http)) as other:
        who = other.whoami()
    assert (who.kind, who.name, who.role, who.id) == ("service", "ci", "viewer", minted.id)


def test_a_secret_is_shown_once_and_kept_nowhere(
    http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]]
) -> None:
    reply = http.post("/v1/tokens", json={"name": "ann"}, headers=bearer("admin"))
    secret = reply.json()["secret"]
    assert reply.headers["cache-control"] == "no-store"
    assert "ann" in [token.name for token in client.tokens().items]
    assert secret not in http.get("/v1/tokens", headers=bearer("admin")).text


def test_a_revoked_token_is_listed_as_such(client: Client) -> None:
    minted = client.mint_token("gone")
    client.revoke_token(minted.id)
    [shown] = [token for token in client.tokens().items if token.id == minted.id]
    assert shown.revoked_at is not None


def test_the_last_use_of_a_token_is_written_once_a_minute_and_in_no_request(
    parts: Parts, http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]]
) -> None:
    mine = bearer("viewer")
    token_id = http.get("/v1/whoami", headers=mine).json()["id"]

    def shown() -> str | None:
        return next(token.last_used_at for token in client.tokens().items if token.id == token_id)

    assert shown() is None
    parts.controllers.tick()
    first = shown()
    assert first is not None
    http.get("/v1/whoami", headers=mine)
    parts.controllers.tick()
    assert shown() == first
    with parts.write() as session:
        tenants.get(session, token_id).last_used_at = now(session) - 61.0
    http.get("/v1/whoami", headers=mine)
    parts.controllers.tick()
    assert (shown() or "") >= first


def test_a_role_that_is_not_for_people_cannot_be_minted(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        client.mint_token("sly", role="node")
    assert refused.value.status == 422


def test_a_join_token_says_when_it_expires(client: Client) -> None:
    joining = client.join_token(ttl_s=60)
    assert joining.secret.startswith("tfj_")
    assert joining.expires_at.endswith("Z")


def test_a_join_token_needs_no_body(http: TestClient, bearer: Callable[[str], dict[str, str]]) -> None:
    assert http.post("/v1/join-tokens", headers=bearer("admin")).status_code == 201
