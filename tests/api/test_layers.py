"""Who asks the database: the API reads and writes through fleet alone, and a list costs as much as its page."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event
from starlette.testclient import TestClient

from api.deps import Parts
from fleet.client import Client
from tests.api.agent import Agent
from tests.whole import ROOT

QUERIES = {"add", "delete", "execute", "flush", "get", "get_one", "query", "scalar", "scalars"}


def own_queries(source: str) -> list[str]:
    """Calls of a session's methods in a source, and imports of the library behind it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = node.func
            if called.attr in QUERIES and isinstance(called.value, ast.Name) and called.value.id == "session":
                found.append(f"session.{called.attr}")
        if isinstance(node, ast.Import | ast.ImportFrom) and "sqlalchemy" in ast.unparse(node):
            found.append(ast.unparse(node))
    return found


def test_an_own_query_is_found() -> None:
    assert own_queries("session.query(Job).all()") == ["session.query"]
    assert own_queries("from sqlalchemy import select") == ["from sqlalchemy import select"]


def test_the_api_has_no_query_of_its_own() -> None:
    sources = {path.name: path.read_text() for path in (ROOT / "api").rglob("*.py")}
    assert {name: found for name, text in sources.items() if (found := own_queries(text))} == {}


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that are executed meanwhile."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("path", ["/v1/nodes", "/v1/jobs", "/v1/searches"])
def test_a_longer_list_takes_no_more_queries(
    parts: Parts,
    http: TestClient,
    client: Client,
    agent: Agent,
    finished: int,
    bearer: Callable[[str], dict[str, str]],
    path: str,
) -> None:
    headers = bearer("viewer")

    def queries() -> int:
        with counted() as statements:
            assert http.get(path, headers=headers).status_code == 200
        return len(statements)

    client.submit_job({"kind": "noop"}, node="tiny1")
    short = queries()
    for number in range(4):
        Agent.enrolled(http, client.join_token().secret, f"more{number}")
        client.submit_job({"kind": "noop"}, node=f"more{number}")
        client.run_search({"program": "gemm", "shape": [8, 8, 8]})
        client.run_search({"program": "gemm", "shape": [8, 8, 8 + number]}, threads=2)
    assert queries() == short
