"""Who may scrape, as it was looked up a moment ago: three hundred nodes are scraped with one token, thirty times a second."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from fleet.permissions import Permission
from fleet.principals import Principal

KEPT_S = 1.0  # so long another server's revocation of a scrape's token may go unnoticed here
RENEWED_S = 0.5  # whoever scrapes then has it looked up anew, and does not wait for that
REMEMBERED = 64


@dataclass
class _Known:
    """Who it is, and when that was looked up; `renewed`: it is being looked up anew."""

    principal: Principal
    at: float
    renewed: bool = False


class Scrapers:
    """Principals of tokens that may scrape and nothing else, by their secrets' digests. May be used from any thread.

    `clear` forgets them all, what is being looked up at that moment included: a token that is revoked here is good for
    nothing from then on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._cleared = 0
        self._known: dict[bytes, _Known] = {}

    def get(self, secret: str) -> Principal | None:
        """Who it is, when that was looked up within the last second."""
        known = self._known.get(_digest(secret))
        return known.principal if known is not None and self._clock() - known.at < KEPT_S else None

    def renew(self, secret: str) -> bool:
        """Whether to look it up anew by now; said once for each time that it was looked up."""
        with self._lock:
            known = self._known.get(_digest(secret))
            if known is None or known.renewed or self._clock() - known.at < RENEWED_S:
                return False
            known.renewed = True
            return True

    def began(self) -> int:
        """To be asked before a look-up, and told with what it found."""
        return self._cleared

    def keep(self, secret: str, found: Principal, began: int) -> None:
        """Remember what was looked up, unless it may do more than scrape, or `clear` came in between."""
        if found.scopes != frozenset({str(Permission.METRICS)}):
            return
        with self._lock:
            if began != self._cleared:
                return
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[_digest(secret)] = _Known(found, self._clock())

    def forget(self, secret: str) -> None:
        """Its token was refused."""
        with self._lock:
            self._known.pop(_digest(secret), None)

    def clear(self) -> None:
        """Forget everybody."""
        with self._lock:
            self._cleared += 1
            self._known = {}


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
