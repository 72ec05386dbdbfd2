"""Requests made up from the OpenAPI document, with declared security: no 5xx, no status that is not documented."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
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

from api.deps import Parts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
EXAMPLES = 25  # of each route and identity
BUDGET_S = 40.0  # of one identity: what is left of a route's examples is then left out
LEAST = 300  # requests, however slow the machine


@dataclass
class Found:
    """What was tried and answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def fuzz(app: FastAPI, headers: dict[str, str]) -> Found:
    """Try every route; returns the statuses and what was not as documented."""
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.app = app
    schema.location = "/"
    found, until = Found(), time.monotonic() + BUDGET_S
    for result in schema.get_all_operations():
        _try(result.ok(), headers, found, until)
    return found


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
        if time.monotonic() > until and sum(found.statuses.values()) >= LEAST:
            return
        reply = case.call(headers=headers)
        found.statuses[reply.status_code] += 1
        try:
            case.validate_response(reply, checks=CHECKS)
        except FailureGroup as error:  # every finding of every route is reported, not the first alone
            what = "; ".join(str(each) for each in error.exceptions)
            found.wrong.append(
                f"{operation.method.upper()} {operation.path}: {reply.status_code} {what}"[:1500]
            )

    each()


@pytest.mark.parametrize("identity", ["admin", "viewer", "nobody"])
def test_no_made_up_request_gets_a_5xx_or_a_status_that_is_not_documented(
    app: FastAPI, parts: Parts, bearer: Callable[[str], dict[str, str]], identity: str
) -> None:
    parts.waits.close()  # nothing parks: neither a long poll nor the event stream
    headers = {} if identity == "nobody" else bearer(identity)
    found = fuzz(app, headers)
    print(identity, dict(found.statuses))
    assert found.wrong == [], "\n\n".join(dict.fromkeys(found.wrong))
    assert sum(found.statuses.values()) >= LEAST


def test_a_planted_status_and_a_planted_error_are_found() -> None:
    app = FastAPI()

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418)

    @app.get("/broken")
    def broken() -> None:
        raise HTTPException(500)

    wrong = fuzz(app, {}).wrong
    assert any("/teapot: 418" in each for each in wrong)
    assert any("/broken: 500" in each for each in wrong)
