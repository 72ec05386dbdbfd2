from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api import errors
from api.schemas import MEDIA_TYPE
from fleet.errors import FleetError, InvalidSpec, InvalidTransition, NotFound, TooLarge


def leaves(kind: type[FleetError]) -> Iterator[type[FleetError]]:
    """The classes below `kind` that nothing derives from."""
    below = kind.__subclasses__()
    if not below:
        yield kind
    for each in below:
        yield from leaves(each)


@pytest.fixture
def failing() -> TestClient:
    """An application whose one route raises what it is given."""
    app = FastAPI()
    errors.install(app)

    @app.get("/raise")
    def raise_it(number: int) -> None:
        raise [
            NotFound("job", 12),
            InvalidSpec("kernel.shape", "needs three sizes"),
            InvalidTransition("job", "failed", "cancel", ()),
            TooLarge("blob", 10, 5),
            ZeroDivisionError("a secret of ours"),
        ][number]

    return TestClient(app, raise_server_exceptions=False)


def test_the_table_has_exactly_the_leaves_of_the_fleets_errors() -> None:
    assert set(errors.STATUSES) == set(leaves(FleetError))


def test_an_error_is_a_problem_document_with_the_errors_values(failing: TestClient) -> None:
    reply = failing.get("/raise?number=0")
    assert reply.status_code == 404
    assert reply.headers["content-type"] == MEDIA_TYPE
    assert reply.json() == {
        "type": "urn:tinyfleet:problem:not-found",
        "title": "Not found",
        "status": 404,
        "detail": "there is no job 12",
        "noun": "job",
        "key": "12",
    }


def test_what_cannot_be_names_the_field(failing: TestClient) -> None:
    reply = failing.get("/raise?number=1")
    assert reply.status_code == 422
    assert reply.json()["errors"] == [{"field": "kernel.shape", "message": "needs three sizes"}]


@pytest.mark.parametrize(("number", "status"), [(2, 409), (3, 413)])
def test_each_error_has_its_status(failing: TestClient, number: int, status: int) -> None:
    reply = failing.get(f"/raise?number={number}")
    assert reply.status_code == status
    assert reply.json()["status"] == status


def test_a_bug_of_ours_says_nothing_about_itself(failing: TestClient) -> None:
    reply = failing.get("/raise?number=4")
    assert reply.status_code == 500
    assert reply.headers["content-type"] == MEDIA_TYPE
    assert "secret" not in reply.text


def test_a_parameter_that_was_not_understood_is_named(failing: TestClient) -> None:
    reply = failing.get("/raise?number=many")
    assert reply.status_code == 422
    assert [entry["field"] for entry in reply.json()["errors"]] == ["query.number"]
    assert "many" not in reply.text  # a value may be a secret


def test_an_unknown_path_is_a_problem_too(failing: TestClient) -> None:
    reply = failing.get("/nothing/here")
    assert reply.status_code == 404
    assert reply.json()["title"] == "Not Found"
