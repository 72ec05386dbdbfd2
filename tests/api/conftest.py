"""Fixtures of the API: the real application over a real database, by way of ASGI or a real server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import assemble, create_app
from api.deps import Parts
from api.server import make_server
from api.settings import Settings
from fleet import tenants
from fleet.client import Client
from fleet.db import now
from fleet.settings import Settings as FleetSettings
from tests.api.agent import Agent
from tests.api.searching import GEMM, work

STARTS_WITHIN_S = 20.0


class Bridge(httpx.BaseTransport):
    """Sends the SDK's requests into an application, without a network."""

    def __init__(self, app: TestClient) -> None:
        self._app = app

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._app.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


@pytest.fixture
def parts(settings: FleetSettings) -> Iterator[Parts]:
    """The server's parts over this test's database; nothing ticks but by hand."""
    assembled = assemble(Settings(fleet=settings, port=0))
    yield assembled
    assembled.close()


@pytest.fixture
def app(parts: Parts) -> FastAPI:
    """The application, without controllers."""
    return create_app(parts, run_controllers=False)


@pytest.fixture
def http(app: FastAPI) -> Iterator[TestClient]:
    """Requests without a token into the application."""
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def secret(parts: Parts) -> Callable[[str], str]:
    """A function from a role (admin, user, viewer) to the secret of a new token with it."""

    def mint(role: tenants.Role) -> str:
        with parts.write() as session:
            return tenants.mint(session, name=f"a-{role}", role=role, now=now(session))[1]

    return mint


@pytest.fixture
def bearer(secret: Callable[[str], str]) -> Callable[[str], dict[str, str]]:
    """A function from a role to the headers of a request by it."""
    return lambda role: {"Authorization": f"Bearer {secret(role)}"}


@pytest.fixture
def client(http: TestClient, secret: Callable[[str], str]) -> Iterator[Client]:
    """The administrator's SDK client over the application."""
    with Client("http://127.0.0.1", secret("admin"), transport=Bridge(http), retry_delays_s=()) as sdk:
        yield sdk


@dataclass(frozen=True)
class Served:
    """A real server in a thread: its URL and its parts. `stop` does what SIGTERM does."""

    url: str
    parts: Parts
    stop: Callable[[], None]


@contextmanager
def serving(parts: Parts, run_controllers: bool) -> Iterator[Served]:
    """uvicorn on a free loopback port, until the block ends."""
    urls: list[str] = []
    listening = threading.Event()

    def note(url: str) -> None:
        urls.append(url)
        listening.set()

    server = make_server(parts, note, run_controllers)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join(STARTS_WITHIN_S)
        assert not thread.is_alive(), "the server did not end"

    try:
        assert listening.wait(STARTS_WITHIN_S), "the server did not start"
        yield Served(urls[0], parts, stop)
    finally:
        stop()


@pytest.fixture
def served(parts: Parts) -> Iterator[Served]:
    """A real server that ticks only by hand."""
    with serving(parts, run_controllers=False) as found:
        yield found


@pytest.fixture
def agent(http: TestClient, client: Client) -> Agent:
    """A node that has joined and reported."""
    return Agent.enrolled(http, client.join_token().secret)


@pytest.fixture
def finished(parts: Parts, client: Client, agent: Agent) -> int:
    """The id of a search that is done."""
    search = client.run_search(GEMM, budget_s=30, threads=1)
    work(parts, client, agent)
    assert client.search(search.id).state == "done", client.search(search.id).error
    return search.id
