"""Errors as RFC 9457 problem documents: the one table from the fleet's errors to HTTP statuses."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.body import RepeatedKey
from api.rates import retry_after
from api.schemas import ProblemResponse, problem_response
from fleet import documents
from fleet.errors import (
    AlreadyExists,
    Crowded,
    DatabaseUnavailable,
    FleetError,
    IdempotencyConflict,
    InvalidSpec,
    InvalidTransition,
    NotFound,
    NotPermitted,
    QuotaExceeded,
    StaleWrite,
    TooLarge,
)

# Exactly the leaves of FleetError; a test holds that.
STATUSES: dict[type[FleetError], int] = {
    NotFound: 404,
    AlreadyExists: 409,
    IdempotencyConflict: 422,
    InvalidTransition: 409,
    NotPermitted: 403,
    StaleWrite: 409,
    InvalidSpec: 422,
    QuotaExceeded: 409,
    Crowded: 409,
    TooLarge: 413,
    DatabaseUnavailable: 503,
}
Location = tuple[str | int, ...]
log = logging.getLogger(__name__)


class Unauthenticated(HTTPException):
    """The request carries no valid bearer token."""

    def __init__(self, detail: str) -> None:
        super().__init__(401, detail, headers={"WWW-Authenticate": 'Bearer realm="tinyfleet"'})


class TooOften(HTTPException):
    """This principal asks more often than it may."""

    def __init__(self, wait_s: float) -> None:
        after = retry_after(wait_s)
        super().__init__(429, f"too many requests: ask again in {after} s", headers={"Retry-After": after})


_LOOKED_AT, _SHOWN = 500, 50  # errors of one request: of a union there is one for each of its forms


def install(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    app.add_exception_handler(FleetError, _fleet_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(RepeatedKey, _repeated_key)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _our_bug)


def _fleet_error(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, FleetError)
    kind = type(error)
    members: dict[str, Any] = dict(error.attributes)
    if isinstance(error, InvalidSpec):
        members["errors"] = [{"field": error.field, "message": error.problem}]
    status = STATUSES[kind]
    if status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
    return problem_response(status, _slug(kind.__name__), _words(kind.__name__), str(error), **members)


def _validation_error(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    found: dict[str, list[str]] = {}
    entries = error.errors()
    for entry in entries[:_LOOKED_AT]:
        field, message = _field_error(entry, error.body)
        found.setdefault(field, []).append(message)
    shown = [_entry(field, messages) for field, messages in found.items()][:_SHOWN]
    if len(found) > _SHOWN or len(entries) > _LOOKED_AT:
        shown.append(
            {"field": "body", "message": f"there is more that is wrong: these are the first {_SHOWN}"}
        )
    return _invalid_request(shown)


def _repeated_key(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RepeatedKey)
    return _invalid_request([_entry(error.field, ["it is given more than once"])])


def _invalid_request(fields: Sequence[Mapping[str, str]]) -> ProblemResponse:
    detail = "; ".join(f"{entry['field']}: {entry['message']}" for entry in fields[:3])
    return problem_response(422, "invalid-request", "Invalid request", detail, errors=fields)


def _entry(field: str, messages: Sequence[str]) -> dict[str, str]:
    """One field with all that is wrong with it: of a union, what each of its forms would have taken."""
    first, *others = dict.fromkeys(messages)
    more = [f", or {other.removeprefix('Input should be ')}" for other in others]
    return {"field": field, "message": "".join([first, *more])}


def _http_error(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    slug = title.lower().replace(" ", "-")
    return problem_response(error.status_code, slug, title, error.detail, headers=error.headers)


def _our_bug(request: Request, error: Exception) -> ProblemResponse:
    """The server's log has the traceback (the error is raised on after this answer); the client gets none of it."""
    detail = "an error in the server; its log says more"
    return problem_response(500, "internal-error", "Internal error", detail)


def _field_error(entry: Mapping[str, Any], body: Any) -> tuple[str, str]:
    """`spec.seconds` and what is wrong with it. The value itself is not repeated: it may be a secret."""
    field, message = _field(entry, body), str(entry["msg"]).removeprefix("Value error, ")
    match entry["type"]:
        case "json_invalid":
            return "body", f"this is not JSON: {entry['ctx']['error']}"
        case "extra_forbidden":
            return field, "unknown field"
        case "union_tag_not_found":
            return _below(field, entry["ctx"]), "Field required"
        case "union_tag_invalid":
            return _below(field, entry["ctx"]), f"Input should be one of {entry['ctx']['expected_tags']}"
    return field, message


def _below(field: str, context: Mapping[str, Any]) -> str:
    """The field by which the form of a value is told."""
    return f"{field}.{str(context['discriminator']).strip(chr(39))}"


def _field(entry: Mapping[str, Any], body: Any) -> str:
    """Where it is: in the body by its place there, elsewhere with where that is (`query.limit`)."""
    root, *place = entry["loc"]
    if root != "body":
        return documents.path([root, *place[:1]])  # a parameter is one value: what follows names validators
    if place[-1:] == ["[key]"]:  # what pydantic puts behind a key that cannot be one
        place.pop()
    if not place:
        return "body"
    last = [place.pop()] if entry["type"] == "missing" else []
    found = _in_document(place, body, entry.get("input"))
    return documents.path([*(place if found is None else found), *last])


def _in_document(location: Sequence[str | int], value: Any, wanted: Any) -> Location | None:
    """A validator's location without the names of models and forms that it puts between the fields: the way from
    `value` that ends at the very object `wanted`; None when there is no such way."""
    if not location:
        return () if value is wanted else None
    part, rest = location[0], location[1:]
    if _has(value, part):
        found = _in_document(rest, value[part], wanted)
        if found is not None:
            return part, *found
    return _in_document(rest, value, wanted) if isinstance(part, str) else None


def _has(value: Any, part: str | int) -> bool:
    if isinstance(part, int):
        return isinstance(value, list) and part < len(value)
    return isinstance(value, dict) and part in value


def _words(name: str) -> str:
    """InvalidSpec → Invalid spec."""
    return re.sub(r"(?<!^)([A-Z])", r" \1", name).capitalize()


def _slug(name: str) -> str:
    return _words(name).lower().replace(" ", "-")
