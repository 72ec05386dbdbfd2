"""Connections that cost more than they say: deadlines for a request's headers and its body, and how many there may be
from one address. uvicorn has none of these.

A deadline counts from where the wait begins, and bytes do not extend it but at the rate that a body may have: who
drips a byte a second is closed when silence would be. A kept-alive connection that says nothing is closed by uvicorn's
own timeout, later.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class ConnectionLimits:
    """Seconds for the headers of a request, and for its body on top of what `body_bytes_per_s` allows it; how many
    connections one address may have open (0: any number, for a server behind a proxy)."""

    header_s: float = 10.0
    body_s: float = 20.0
    body_bytes_per_s: float = 64 * 1024.0
    per_address: int = 256
    stalled_s: float = 30.0  # without anything of an answer being read


@dataclass
class Addresses:
    """How many connections each address has open."""

    limits: ConnectionLimits
    open: Counter[str] = field(default_factory=Counter)

    def enter(self, address: str) -> bool:
        """Count a connection; False when it is one too many."""
        self.open[address] += 1
        return not 0 < self.limits.per_address < self.open[address]

    def leave(self, address: str) -> None:
        """A counted connection has ended."""
        self.open[address] -= 1
        if self.open[address] <= 0:
            del self.open[address]


class TimedConnection(H11Protocol):
    """uvicorn's connection, with deadlines. What misses one is closed without an answer: it is not listening.

    Whoever reads so slowly that nothing more can be written has `stalled_s` until something can.
    """

    def __init__(self, addresses: Addresses, **uvicorn_gives: Any) -> None:
        super().__init__(**uvicorn_gives)
        self._addresses = addresses
        self._limits = addresses.limits
        self._address = ""
        self._waiting = ""  # for headers, a body, or nothing
        self._since = 0.0
        self._arrived = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for headers, unless the address has enough connections."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        if self._addresses.enter(self._address):
            self._wait("headers")
        else:
            transport.abort()

    def pause_writing(self) -> None:
        """Its buffer is full: wait for its reader, for so long."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self._limits.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._end_stall()

    def _end_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no longer."""
        self._wait("")
        self._end_stall()
        self._addresses.leave(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the bytes, and see what is waited for now."""
        self._arrived += len(data)
        super().data_received(data)
        self._look(len(data))

    def on_response_complete(self) -> None:
        """A kept-alive connection may rest, but not in the middle of a body that nobody reads."""
        super().on_response_complete()
        self._look()

    def _look(self, fresh: int = 0) -> None:
        """See what is waited for, now that so many bytes have just come."""
        answered = self.cycle is None or self.cycle.response_complete
        if self.transport.is_closing():
            self._wait("")
        elif self.conn.their_state is h11.SEND_BODY:
            self._wait("body", fresh)
        elif answered and (self.cycle is None or self.conn.trailing_data[0]):
            self._wait("headers")
        else:
            self._wait("")

    def _wait(self, what: str, arrived: int = 0) -> None:
        if what == self._waiting:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting, self._since, self._arrived = what, self.loop.time(), arrived
        if what:
            self._timer = self.loop.call_at(self._deadline(), self._expire)

    def _deadline(self) -> float:
        if self._waiting == "headers":
            return self._since + self._limits.header_s
        return self._since + self._limits.body_s + self._arrived / self._limits.body_bytes_per_s

    def _expire(self) -> None:
        deadline = self._deadline()
        if deadline > self.loop.time():  # a large body that arrives fast enough
            self._timer = self.loop.call_at(deadline, self._expire)
        else:
            self.transport.abort()
