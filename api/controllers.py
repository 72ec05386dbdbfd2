"""The control plane's loop inside the server process: tick, then hint whoever waits for what changed.

A change is written together with its events, so that the subjects of new events are exactly the keys to hint.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

from api.waits import EVENTS, Waits, node_key
from fleet import events
from fleet.db import Session
from fleet.loop import Loop

EVENTS_AT_ONCE = 500


class Controllers:
    """Owns the loop's thread, and knows up to which event the waiters were told."""

    def __init__(
        self,
        tick: Callable[[], Iterable[int]],
        read: Callable[[], AbstractContextManager[Session]],
        waits: Waits,
        interval_s: float,
        beside: Sequence[Loop] = (),
    ) -> None:
        """`tick` runs one tick of the control plane and returns the nodes that have something new to do. `beside`: loops
        that run and end with it."""
        self._run_tick = tick
        self._read = read
        self._waits = waits
        self._told = 0
        self._telling = threading.Lock()
        self._loop = Loop(self.tick, interval_s)
        self._beside = beside

    def start(self) -> None:
        """Tick in a thread of their own, every interval and when something changed."""
        with self._read() as session:
            self._told = events.newest(session)
        self._loop.start()
        for each in self._beside:
            each.start()

    def stop(self) -> None:
        """End the thread after the tick it is in."""
        self._loop.stop()
        for each in self._beside:
            each.stop()

    def tick(self) -> None:
        """One tick; afterwards the agents with something to do, and whoever waits for what it did, are woken."""
        nodes = self._run_tick()
        self._waits.hint(*(node_key(node_id) for node_id in nodes))
        self.tell()

    def changed(self) -> None:
        """A request has committed: wake its waiters and let the next tick come now."""
        self._loop.hint()
        self.tell()

    def tell(self) -> None:
        """Hint the subjects of every event since the last time."""
        with self._telling, self._read() as session:
            while fresh := events.page(session, self._told, EVENTS_AT_ONCE):
                self._told = fresh[-1].id
                self._waits.hint(EVENTS, *{event.subject for event in fresh})
