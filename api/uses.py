"""When tokens were used last: noted by requests, written by the controllers, for each token once a minute at most."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from fleet import tenants
from fleet.db import Session
from fleet.models import Token

EVERY_S = 60.0


class TokenUses:
    """Uses that are not written yet. May be used from any thread."""

    def __init__(self, write: Callable[[], AbstractContextManager[Session]]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._at: dict[int, float] = {}

    def note(self, token: Token, now: float) -> None:
        """The token was used; no news when its row says so already, up to a minute."""
        if token.last_used_at is None or now - token.last_used_at >= EVERY_S:
            with self._lock:
                self._at[token.id] = now

    def write(self) -> None:
        """Write what was noted since the last time, in one transaction."""
        with self._lock:
            uses, self._at = self._at, {}
        if uses:
            with self._write() as session:
                tenants.used(session, uses)
