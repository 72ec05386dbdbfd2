from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.routing import PUBLIC
from api.schemas import MEDIA_TYPE

MAKING = (
    "PUT /v1/blobs/{hash}",
    "PUT /v1/secrets/{secret}",
    "PUT /v1/racks/{site}/{rack}",
    "PUT /v1/box-models/{model}",
)  # what was not there
Operation = tuple[str, dict[str, Any]]


@pytest.fixture
def operations(app: FastAPI) -> list[Operation]:
    """Every operation of the document, as (method and path, what is said of it)."""
    return list(each_operation(app.openapi()))


def each_operation(document: dict[str, Any]) -> Iterator[Operation]:
    """Every operation of an OpenAPI document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_route_has_a_summary_and_a_sentence(operations: list[Operation]) -> None:
    assert [name for name, each in operations if not each.get("summary") or not each.get("description")] == []


def test_every_route_has_a_typed_response(operations: list[Operation]) -> None:
    untyped = []
    for name, operation in operations:
        good = [each for status, each in operation["responses"].items() if status.startswith("2")]
        contents = [content for each in good for content in each.get("content", {}).values()]
        nothing = "204" in operation["responses"]  # there is no content then
        if (not contents and not nothing) or not all(
            says_something(content.get("schema", {})) for content in contents
        ):
            untyped.append(name)
    assert untyped == []


def says_something(schema: dict[str, Any]) -> bool:
    """Does a schema say what is inside? That it is some object does not."""
    return bool(schema) and (schema.get("type") != "object" or "properties" in schema)


def test_every_guarded_route_says_how_it_refuses(operations: list[Operation]) -> None:
    for name, operation in operations:
        if name.split(" ")[1] not in PUBLIC:
            assert {"401", "403"} <= operation["responses"].keys(), name
            assert operation["security"], name


def test_every_route_with_parameters_or_a_body_says_422(operations: list[Operation]) -> None:
    for name, operation in operations:
        if operation.get("parameters") or "requestBody" in operation:
            assert "422" in operation["responses"], name


def test_every_route_with_a_json_body_says_415(operations: list[Operation]) -> None:
    for name, operation in operations:
        takes_json = "application/json" in operation.get("requestBody", {}).get("content", {})
        assert takes_json == ("415" in operation["responses"]), name


def test_every_route_with_a_body_says_413_and_no_other_does(operations: list[Operation]) -> None:
    for name, operation in operations:
        assert ("requestBody" in operation) == ("413" in operation["responses"]), name


def test_every_route_to_one_thing_says_404(operations: list[Operation]) -> None:
    for name, operation in operations:
        if "{" in name and name not in MAKING:
            assert "404" in operation["responses"], name


def test_every_error_is_a_problem_document(operations: list[Operation]) -> None:
    for name, operation in operations:
        for status, response in operation["responses"].items():
            if status >= "400":
                assert list(response["content"]) == [MEDIA_TYPE], (name, status)
                assert response["content"][MEDIA_TYPE]["schema"]["$ref"].endswith("/Problem"), name


def test_operations_have_names_of_their_own(operations: list[Operation]) -> None:
    names = [operation["operationId"] for _, operation in operations]
    assert len(names) == len(set(names))


def test_a_client_with_a_token_may_read_the_document(
    app: FastAPI, http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    document = http.get("/v1/openapi.json", headers=bearer("viewer")).json()
    assert document["info"]["title"] == "tinyfleet"
    assert document == app.openapi()
