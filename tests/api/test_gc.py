from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api.deps import Parts
from fleet.agents.protocol import blob_address
from fleet.client import ApiError, Client
from fleet.models import Blob


def make_old(parts: Parts) -> None:
    """Every blob is from long ago."""
    with parts.write() as session:
        session.execute(update(Blob).values(created_at=1.0, touched_at=None))


def rows(found: Any, kind: str) -> int:
    """How many of a kind."""
    return int(next(each.rows for each in found.kinds if each.kind == kind))


def test_a_dry_run_lists_what_would_go_and_changes_nothing(parts: Parts, client: Client) -> None:
    addresses = [client.put_blob(content) for content in (b"one", b"three")]
    make_old(parts)
    for _ in range(2):
        found = client.gc()
        assert (found.dry_run, rows(found, "blobs"), found.bytes) == (True, 2, 8)
        assert {each.hash: each.size for each in found.blobs} == dict(zip(addresses, (3, 5), strict=True))
    gone = client.gc(dry_run=False)
    assert (gone.dry_run, rows(gone, "blobs"), gone.bytes, gone.more) == (False, 2, 8, False)
    assert rows(client.gc(), "blobs") == 0
    with pytest.raises(ApiError):
        client.get_blob(addresses[0])


def test_who_asks_for_a_blob_keeps_it(parts: Parts, client: Client, http: TestClient, bearer: Any) -> None:
    address = client.put_blob(b"content")
    make_old(parts)
    assert http.head(f"/v1/blobs/{address}", headers=bearer("user")).status_code == 200
    assert rows(client.gc(dry_run=False), "blobs") == 0
    assert client.get_blob(address) == b"content"


def test_what_is_collected_can_be_uploaded_again(parts: Parts, client: Client) -> None:
    address = client.put_blob(b"content")
    make_old(parts)
    client.gc(dry_run=False)
    assert client.put_blob(b"content") == address == blob_address(b"content")
    assert client.get_blob(address) == b"content"


def test_only_the_owners_of_the_machines_collect(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    for role in ("viewer", "user", "operator"):
        assert http.post("/v1/gc", json={}, headers=bearer(role)).status_code == 403
    assert http.post("/v1/gc", json={"dry_run": 1}, headers=bearer("admin")).status_code == 422
