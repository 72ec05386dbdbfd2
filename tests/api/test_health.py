from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.deps import Parts


@pytest.fixture
def failing(parts: Parts) -> Iterator[TestClient]:
    """An application whose database's file is gone, and something else in its place."""
    parts.close()
    (parts.settings.fleet.data / "fleet.db").unlink()
    for end in ("-wal", "-shm"):
        (parts.settings.fleet.data / f"fleet.db{end}").unlink(missing_ok=True)
    (parts.settings.fleet.data / "fleet.db").mkdir()
    app = create_app(dataclasses.replace(parts), run_controllers=False)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def test_a_server_that_can_serve_says_so(http: TestClient) -> None:
    for path in ("/livez", "/readyz"):
        assert http.get(path).json() == {"status": "ok"}


def test_a_server_whose_database_fails_lives_and_is_not_ready(
    failing: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert failing.get("/livez").status_code == 200
    reply = failing.get("/readyz")
    assert reply.status_code == 503
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json() == {
        "type": "urn:tinyfleet:problem:database-unavailable",
        "title": "Database unavailable",
        "status": 503,
        "detail": "the database does not answer",
    }
    assert "unable to open database file" in caplog.text  # the cause is for the log


def test_a_request_that_needs_the_database_is_not_taken_for_a_bug(
    http: TestClient, bearer: Callable[[str], dict[str, str]], request: pytest.FixtureRequest
) -> None:
    headers = bearer("admin")
    failing: TestClient = request.getfixturevalue("failing")
    assert failing.get("/v1/jobs", headers=headers).status_code == 503
