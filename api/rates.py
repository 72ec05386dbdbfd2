"""How often somebody may ask: token buckets, one for each address and one for each principal.

A bucket is filled at a steady rate up to its burst. A refusal for want of a valid token (401) costs its address more:
whoever guesses is stopped sooner than whoever works. Behind a TLS proxy all requests have one address, and only
principals are counted.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.schemas import problem_response

TRACKED = 8192  # buckets; the one that was used least recently is forgotten, which fills it
REFUSED_COSTS = 10.0
EXEMPT = frozenset({"/livez", "/readyz"})  # probes that are refused would take a server out of service


@dataclass(frozen=True)
class RateLimits:
    """Requests per second that are sustained, and how many may come at once; for addresses and for principals."""

    address_per_s: float = 400.0
    address_burst: float = 4000.0
    principal_per_s: float = 200.0
    principal_burst: float = 2000.0
    download_per_s: float = 5.0  # files of releases for an address: one installation takes some forty
    download_burst: float = 400.0


class Buckets:
    """One bucket for each key. May be used from any thread."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how much at which time

    def take(self, key: str, cost: float = 1.0) -> float:
        """0 when there was enough left and it is taken; else the seconds until there is, and nothing is taken."""
        with self._lock:
            left = self._now_left(key)
            if left >= cost:
                self._keep(key, left - cost)
                return 0.0
            return (cost - left) / self._per_s

    def charge(self, key: str, cost: float) -> None:
        """Take what is owed, down to nothing."""
        with self._lock:
            self._keep(key, max(0.0, self._now_left(key) - cost))

    def _now_left(self, key: str) -> float:
        left, at = self._left.get(key, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - at) * self._per_s)

    def _keep(self, key: str, left: float) -> None:
        self._left[key] = (left, self._clock())
        self._left.move_to_end(key)
        if len(self._left) > TRACKED:
            self._left.popitem(last=False)


def retry_after(wait_s: float) -> str:
    """The value of Retry-After, whole seconds."""
    return str(max(1, math.ceil(wait_s)))


class AddressRates:
    """ASGI middleware: refuses an address that asks too often, before anything of the request is read."""

    def __init__(self, app: ASGIApp, buckets: Buckets) -> None:
        self._app = app
        self._buckets = buckets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in EXEMPT or not scope.get("client"):
            await self._app(scope, receive, send)
            return
        address = scope["client"][0]
        wait_s = self._buckets.take(address)
        if wait_s > 0:
            await _refusal(wait_s)(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._buckets.charge(address, REFUSED_COSTS)
            await send(message)

        await self._app(scope, receive, sent)


def _refusal(wait_s: float) -> ASGIApp:
    after = retry_after(wait_s)
    detail = f"too many requests from this address: ask again in {after} s"
    headers = {"Retry-After": after, "Connection": "close"}
    return problem_response(429, "too-many-requests", "Too Many Requests", detail, headers)
