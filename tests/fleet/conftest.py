"""Fixtures of the control plane's tests: searches, and a control plane that is stepped by hand."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from fleet import searches
from fleet.blobs import Blobs
from fleet.models import Search
from fleet.principals import Principal
from fleet.searches import SearchRequest
from tests.fleet.acting import GEMM, Agent
from tests.fleet.stepping import Fleet, Submit


@pytest.fixture
def submit(sessions: sessionmaker[Session], admin: Principal, now: float) -> Submit:
    """Ask for a search."""

    def ask(key: str | None = None, **wanted: Any) -> Search:
        request = SearchRequest.model_validate({"kernel": GEMM, "per_round": 4, "width": 2} | wanted)
        with sessions.begin() as session:
            return searches.submit(session, request, principal=admin, now=now, idempotency_key=key)

    return ask


@pytest.fixture
def fleet(sessions: sessionmaker[Session], blobs: Blobs, now: float, agent: Agent) -> Fleet:
    """The control plane with one agent."""
    return Fleet(sessions, blobs, now, agent)
