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

from api.schemas import ProblemResponse, problem_response
from fleet.errors import (
    AlreadyExists,
    DatabaseUnavailable,
    FleetError,
    IdempotencyConflict,
    InvalidSpec,
    InvalidTransition,
    NotFound,
    NotPermitted,
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
    TooLarge: 413,
    DatabaseUnavailable: 503,
}
log = logging.getLogger(__name__)


class Unauthenticated(HTTPException):
    """The request carries no valid bearer token."""

    def __init__(self, detail: str) -> None:
        super().__init__(401, detail, headers={"WWW-Authenticate": 'Bearer realm="tinyfleet"'})


def install(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    app.add_exception_handler(FleetError, _fleet_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
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
    fields = [_field_error(entry) for entry in error.errors()]
    detail = "; ".join(f"{entry['field']}: {entry['message']}" for entry in fields[:3])
    return problem_response(422, "invalid-request", "Invalid request", detail, errors=fields)


def _http_error(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    slug = title.lower().replace(" ", "-")
    return problem_response(error.status_code, slug, title, error.detail, headers=error.headers)


def _our_bug(request: Request, error: Exception) -> ProblemResponse:
    """The server's log has the traceback (the error is raised on after this answer); the client gets none of it."""
    detail = "an error in the server; its log says more"
    return problem_response(500, "internal-error", "Internal error", detail)


def _field_error(entry: Mapping[str, Any]) -> dict[str, str]:
    """`body.spec.seconds` and what is wrong with it. The value itself is not repeated: it may be a secret."""
    message = str(entry["msg"]).removeprefix("Value error, ")
    if entry["type"] == "extra_forbidden":
        message = "unknown field"
    if entry["type"] == "json_invalid":
        return {"field": "body", "message": f"this is not JSON: {entry['ctx']['error']}"}
    return {"field": _path(entry["loc"]), "message": message}


def _path(location: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in location)


def _words(name: str) -> str:
    """InvalidSpec → Invalid spec."""
    return re.sub(r"(?<!^)([A-Z])", r" \1", name).capitalize()


def _slug(name: str) -> str:
    return _words(name).lower().replace(" ", "-")
