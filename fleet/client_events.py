"""The SDK's calls about what happened: pages of events, a stream of them, and where they are sent to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import httpx

from fleet.client_wire import TIMEOUT_S, Connection, Unreachable, given, refusal
from fleet.collected import Collected
from fleet.resources import Event, Page
from fleet.webhook_resources import Delivery, MintedWebhook, Webhook


class EventCalls(Connection):
    """Events and webhooks."""

    def events(
        self,
        after: int | None = None,
        limit: int | None = None,
        subject: str | None = None,
        wait: float | None = None,
    ) -> Page[Event]:
        """Events, oldest first, after the one with id `after` (0: from the first on; none: the newest ones), only about
        `subject` if given. With `wait`, the answer comes when there is one, or after so many seconds (≤ 60)."""
        query = given(after=after, limit=limit, subject=subject, wait=wait)
        return self._get(Page[Event], "/v1/events", query)

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

    # ---------------------------------------------------------------------------------------- retention

    def gc(self, dry_run: bool = True) -> Collected:
        """What has been kept for long enough: what would go, or a pass that takes it out."""
        return self._post(Collected, "/v1/gc", {"dry_run": dry_run})

    # ----------------------------------------------------------------------------------------- webhooks

    def add_webhook(
        self, name: str, url: str, kinds: Sequence[str], shape: str | None = None
    ) -> MintedWebhook:
        """Send events of these kinds (names, or patterns as cron.*) to an https:// URL, as standard, slack or discord
        bodies. The signing secret is in the answer and nowhere else."""
        body = {"name": name, "url": url, "kinds": list(kinds), **given(shape=shape)}
        return self._post(MintedWebhook, "/v1/webhooks", body)

    def webhooks(
        self, name: str | None = None, after: int | None = None, limit: int | None = None
    ) -> Page[Webhook]:
        """Webhooks, newest first; or the one of a name."""
        return self._get(Page[Webhook], "/v1/webhooks", given(name=name, after=after, limit=limit))

    def webhook(self, webhook_id: int) -> Webhook:
        """One webhook."""
        return self._get(Webhook, f"/v1/webhooks/{webhook_id}")

    def test_webhook(self, webhook_id: int) -> Delivery:
        """Send a webhook.test there."""
        return self._post(Delivery, f"/v1/webhooks/{webhook_id}/test")

    def enable_webhook(self, webhook_id: int) -> Webhook:
        """Send there again, after it was disabled."""
        return self._post(Webhook, f"/v1/webhooks/{webhook_id}/enable")

    def rotate_webhook(self, webhook_id: int) -> MintedWebhook:
        """A new signing secret; the old one signs too for a day."""
        return self._post(MintedWebhook, f"/v1/webhooks/{webhook_id}/rotate")

    def remove_webhook(self, webhook_id: int) -> None:
        """Send nothing more there."""
        self._send("DELETE", f"/v1/webhooks/{webhook_id}", repeatable=True)

    def deliveries(
        self, webhook_id: int, state: str | None = None, after: int | None = None, limit: int | None = None
    ) -> Page[Delivery]:
        """What was sent, is to be sent, or was given up (pending, delivered or dead), newest first."""
        query = given(state=state, after=after, limit=limit)
        return self._get(Page[Delivery], f"/v1/webhooks/{webhook_id}/deliveries", query)

    def redeliver(self, webhook_id: int, delivery_id: int) -> Delivery:
        """Send it once more, with the same message id."""
        return self._post(Delivery, f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver")
