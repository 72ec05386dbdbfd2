from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.testclient import TestClient

from api.app import create_app
from api.deps import Parts
from fleet import jobs
from fleet.db import Session


class CommitFailed(Exception):
    """The disk is full, or the database is gone."""


def test_nobody_is_told_of_a_change_whose_commit_failed(
    parts: Parts, bearer: Callable[[str], dict[str, str]]
) -> None:
    headers = bearer("user")

    @contextmanager
    def failing() -> Iterator[Session]:
        with parts.write() as session:
            yield session
            raise CommitFailed

    app = create_app(dataclasses.replace(parts, write=failing), run_controllers=False)
    reply = TestClient(app, raise_server_exceptions=False).post(
        "/v1/jobs", json={"spec": {"kind": "noop"}}, headers=headers
    )
    assert reply.status_code == 500
    with parts.read() as session:
        assert jobs.page(session) == []
