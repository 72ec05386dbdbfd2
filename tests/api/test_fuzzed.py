"""Requests made up from the OpenAPI document, with declared security: no 5xx, no status that is not documented."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI, HTTPException
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import create_app
from api.deps import Parts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
EXAMPLES = 25  # of each route and identity
BUDGET_S = 40.0  # of one identity: what is left of a route's examples beyond LEAST is then left out
LEAST = 5  # of each route that takes anything, however slow the machine
# Bodies that are right, where none that is made up ever is.
RIGHT: dict[str, dict[str, Any]] = {
    "POST /v1/jobs": {"spec": {"kind": "noop"}},
    "POST /v1/jobs/batch": {"jobs": [{"spec": {"kind": "noop"}}]},
    "POST /v1/arrays": {"spec": {"kind": "noop"}, "size": 2},
    "POST /v1/crons": {"name": "nightly", "schedule": "@daily", "job": {"spec": {"kind": "noop"}}},
    "POST /v1/webhooks": {"name": "chat", "url": "https://93.184.216.34/hook", "kinds": ["*"]},
}
Headers = Callable[[], dict[str, str]]


@dataclass
class Found:
    """What was tried and answered, by route; `right` is what bodies that are right were answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    right: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def fuzz(app: FastAPI, headers: Headers) -> Found:
    """Try every route; returns the statuses and what was not as documented.

    `headers` are asked for anew for each route: one of them revokes the token that it is tried with.
    """
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.app = app
    schema.location = "/"
    found, until = Found(), time.monotonic() + BUDGET_S
    for result in schema.get_all_operations():
        operation, held = result.ok(), headers()
        _try(operation, held, found, until)
        name = _name(operation)
        if name in RIGHT:
            case = operation.Case(body=RIGHT[name], media_type="application/json")
            found.right[name] = _asked(case, operation, held, found)
    return found


def _name(operation: Any) -> str:
    return f"{operation.method.upper()} {operation.path}"


def _try(operation: Any, headers: dict[str, str], found: Found, until: float) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def each(case: Any) -> None:
        if time.monotonic() < until or found.tried[_name(operation)] < LEAST:
            _asked(case, operation, headers, found)

    each()


def _asked(case: Any, operation: Any, headers: dict[str, str], found: Found) -> int:
    """The answer's status."""
    reply = case.call(headers=headers)
    found.statuses[reply.status_code] += 1
    found.tried[_name(operation)] += 1
    try:
        case.validate_response(reply, checks=CHECKS)
    except FailureGroup as error:  # every finding of every route is reported, not the first alone
        what = "; ".join(str(each) for each in error.exceptions)
        found.wrong.append(f"{_name(operation)}: {reply.status_code} {what}"[:1500])
    return int(reply.status_code)


@pytest.fixture
def patient(parts: Parts) -> FastAPI:
    """The application, for an address that may ask as often as it likes."""
    rates = replace(parts.settings.rates, address_per_s=1e9, address_burst=1e9)
    return create_app(replace(parts, settings=replace(parts.settings, rates=rates)), run_controllers=False)


@pytest.mark.parametrize(("identity", "answer"), [("admin", 201), ("viewer", 403), ("nobody", 401)])
def test_no_made_up_request_gets_a_5xx_or_a_status_that_is_not_documented(
    patient: FastAPI, parts: Parts, bearer: Callable[[str], dict[str, str]], identity: str, answer: int
) -> None:
    parts.waits.close()  # nothing parks: neither a long poll nor the event stream
    found = fuzz(patient, lambda: {} if identity == "nobody" else bearer(identity))
    print(identity, sum(found.statuses.values()), "requests", dict(found.statuses))
    assert found.wrong == [], "\n\n".join(dict.fromkeys(found.wrong))
    documented = {
        f"{method.upper()} {path}": "parameters" in operation or "requestBody" in operation
        for path, operations in patient.openapi()["paths"].items()
        for method, operation in operations.items()
    }
    assert {
        name for name, takes in documented.items() if found.tried[name] < (LEAST if takes else 1)
    } == set()
    assert found.right == dict.fromkeys(RIGHT, answer)
    lost = {401: identity != "nobody", 429: True}  # answers that would say nothing of a route
    assert {status for status, is_lost in lost.items() if is_lost and found.statuses[status]} == set()


def test_a_planted_status_and_a_planted_error_are_found() -> None:
    app = FastAPI()

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418)

    @app.get("/broken")
    def broken() -> None:
        raise HTTPException(500)

    wrong = fuzz(app, dict).wrong
    assert any("/teapot: 418" in each for each in wrong)
    assert any("/broken: 500" in each for each in wrong)
