"""Wait for a hint without holding a thread or a session.

A waiter listens first and looks afterwards, so that a hint between its look and its wait is not lost. Hints carry
no data: who is woken looks again. `hint` and `close` may be called from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

Seen = TypeVar("Seen")
EVENTS = "events"  # the key of those who wait for any event
CLOSING = "closing"  # the key of those who wait for what the server's stop is to interrupt


def job_key(job_id: int) -> str:
    """The key of those who wait for a job: the subject of its events."""
    return f"job:{job_id}"


def search_key(search_id: int) -> str:
    """The key of those who wait for a search: the subject of its events."""
    return f"search:{search_id}"


def grant_key(grant_id: int) -> str:
    """The key of those who wait for a login: the subject of its events."""
    return f"grant:{grant_id}"


def node_key(node_id: int) -> str:
    """The key under which a node's agent waits for something to do."""
    return f"node:{node_id}"


class Closed(Exception):
    """The server stops: what was waited for is not waited for any longer."""


class Bell:
    """Rings one waiter's event loop, from any thread; between two waits any number of rings is one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter, or let its next wait return at once."""
        with suppress(RuntimeError):  # the loop has ended, and its waiters with it
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float | None) -> bool:
        """True when it rang within `seconds`; None waits for as long as it takes."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Waits:
    """Who waits for which key: the subject of an event (job:12), or any event."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bells: dict[str, set[Bell]] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once the server is stopping: nobody waits any more."""
        return self._closed

    def hint(self, *keys: str) -> None:
        """Wake everybody who listens to one of the keys."""
        with self._lock:
            bells = {bell for key in keys for bell in self._bells.get(key, ())}
        for bell in bells:
            bell.ring()

    def close(self) -> None:
        """Wake everybody, now and from now on."""
        self._closed = True
        with self._lock:
            bells = {bell for listeners in self._bells.values() for bell in listeners}
        for bell in bells:
            bell.ring()

    def listening(self, key: str) -> int:
        """How many waiters listen to a key."""
        with self._lock:
            return len(self._bells.get(key, ()))

    @contextmanager
    def listen(self, key: str) -> Iterator[Bell]:
        """A bell for a key, for the running event loop."""
        bell = Bell(asyncio.get_running_loop())
        with self._lock:
            self._bells.setdefault(key, set()).add(bell)
        try:
            yield bell
        finally:
            with self._lock:
                self._bells[key].discard(bell)
                if not self._bells[key]:
                    del self._bells[key]

    async def unless_closed(self, arriving: Coroutine[Any, Any, Seen]) -> Seen:
        """What arrives. Raises Closed when the server stops before that."""
        with self.listen(CLOSING) as bell:
            if self._closed:
                bell.ring()  # what is there already still arrives first
            found, closing = asyncio.ensure_future(arriving), asyncio.ensure_future(bell.wait(None))
            try:
                await asyncio.wait((found, closing), return_when=asyncio.FIRST_COMPLETED)
                if found.done():
                    return found.result()
                raise Closed
            finally:
                found.cancel()
                closing.cancel()

    async def look_until(
        self, key: str, seconds: float, look: Callable[[], Seen], enough: Callable[[Seen], bool]
    ) -> Seen:
        """Look (in a thread) at once and after each hint, until it is enough, time is up or the server stops.

        Returns what was seen last. Nothing is held between two looks. The last look is after the time is up: a
        hint that never came costs a delay, not the truth.
        """
        if seconds <= 0:
            return await run_in_threadpool(look)
        deadline = asyncio.get_running_loop().time() + seconds
        with self.listen(key) as bell:
            while True:
                seen = await run_in_threadpool(look)
                left = deadline - asyncio.get_running_loop().time()
                if self._closed or left <= 0 or enough(seen):
                    return seen
                await bell.wait(left)
