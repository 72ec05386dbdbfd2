from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from api.app import assemble, create_app
from api.rates import TRACKED, Buckets, RateLimits
from api.settings import Settings
from fleet import tenants
from fleet.db import now
from fleet.settings import Settings as FleetSettings

SLOW = RateLimits(address_per_s=0.01, address_burst=60, principal_per_s=0.01, principal_burst=5)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    buckets = Buckets(per_s=2.0, burst=3.0, clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("b") == 0.0
    clock.now = 0.5
    assert [buckets.take("a"), buckets.take("a")] == [0.0, 0.5]


def test_no_more_buckets_are_kept_than_there_is_room_for() -> None:
    buckets = Buckets(per_s=1.0, burst=1.0)
    for number in range(TRACKED + 100):
        buckets.take(str(number))
    assert len(buckets._left) == TRACKED


@pytest.fixture
def limited(settings: FleetSettings) -> Callable[[RateLimits], TestClient]:
    """A function that makes the application with these limits."""

    def make(rates: RateLimits) -> TestClient:
        parts = assemble(dataclasses.replace(Settings(fleet=settings, port=0), rates=rates))
        return TestClient(create_app(parts, run_controllers=False), base_url="http://127.0.0.1")

    return make


def test_a_principal_that_asks_too_often_is_told_when_to_ask_again(
    limited: Callable[[RateLimits], TestClient],
) -> None:
    with limited(SLOW) as http:
        parts = http.app.state.parts  # type: ignore[attr-defined]
        with parts.write() as session:
            secrets = [
                tenants.mint(session, name=name, role="viewer", now=now(session))[1]
                for name in ("ann", "bob")
            ]
        ann, bob = ({"Authorization": f"Bearer {secret}"} for secret in secrets)
        assert [http.get("/v1/whoami", headers=ann).status_code for _ in range(6)] == [200] * 5 + [429]
        refused = http.get("/v1/whoami", headers=ann)
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["type"] == "urn:tinyfleet:problem:too-many-requests"
        assert http.get("/v1/whoami", headers=bob).status_code == 200


def test_an_address_that_guesses_tokens_is_stopped_and_probes_are_not(
    limited: Callable[[RateLimits], TestClient],
) -> None:
    with limited(SLOW) as http:
        found = [http.get("/v1/whoami").status_code for _ in range(10)]
        assert found == [401] * 6 + [429] * 4  # each costs eleven of sixty
        refused = http.post("/v1/jobs", content=b"x" * 1000)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert http.get("/livez").status_code == 200
