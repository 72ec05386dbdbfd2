"""Call a function every interval, or at once when hinted, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Loop:
    """Runs `tick` until stopped. A tick that fails is logged and the next one comes all the same."""

    def __init__(self, tick: Callable[[], object], interval_s: float, name: str = "controllers") -> None:
        self._tick = tick
        self._interval_s = interval_s
        self._hinted = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first tick comes at once."""
        self._thread.start()

    def hint(self) -> None:
        """Look now: hints that come during a tick are one more tick."""
        self._hinted.set()

    def stop(self, timeout_s: float = 30.0) -> None:
        """End after the tick that is running; waits for it."""
        self._stopping = True
        self._hinted.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping:
            self._hinted.clear()
            try:
                self._tick()
            except Exception:
                log.exception("a tick failed; the next one follows")
            self._hinted.wait(self._interval_s)
