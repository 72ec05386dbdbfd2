"""The SDK's calls about what happened: pages of events, and a stream of them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx

from fleet.client_wire import TIMEOUT_S, Connection, Unreachable, given, refusal
from fleet.resources import Event, Page


class EventCalls(Connection):
    """Events."""

    def events(self, after: int | None = None, limit: int | None = None) -> Page[Event]:
        """Events, oldest first, after the one with id `after` (0: from the first on; none: the newest ones)."""
        return self._get(Page[Event], "/v1/events", given(after=after, limit=limit))

    def stream_events(self, after: int | None = None) -> Iterator[Event]:
        """Events as they happen, without end, after the one with id `after` (none: from now on).

        A lost connection is made again from the last event seen.
        """
        failures = 0
        while True:
            reason = "the server ended the stream"
            try:
                for event in self._event_stream(after):
                    failures = 0
                    if event is not None:
                        after = event.id
                        yield event
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            if failures == len(self._retry_delays_s):
                raise Unreachable(self.base_url, reason)
            time.sleep(self._retry_delays_s[failures])
            failures += 1

    def _event_stream(self, after: int | None) -> Iterator[Event | None]:
        """One connection's events, and None for each sign of life between them."""
        timeout = httpx.Timeout(TIMEOUT_S, read=60.0)  # the server's keep-alive comments come every 15 s
        query = given(after=after)
        with self._http.stream("GET", "/v1/events/stream", params=query, timeout=timeout) as reply:
            if reply.is_error:
                reply.read()
                raise refusal(reply)
            for line in reply.iter_lines():
                if line.startswith(":"):
                    yield None
                elif line.startswith("data:"):
                    yield Event.model_validate_json(line.removeprefix("data:"))
