"""The SDK's calls about releases and updates."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.client_wire import Connection, given
from fleet.resources import Page
from fleet.update_resources import Release, Updates


class UpdateCalls(Connection):
    """Which version nodes run."""

    def install_script(self) -> bytes:
        """The installer of an agent, with this server's address in it."""
        return self._send("GET", "/install.sh", repeatable=True).content

    def releases(self) -> list[Release]:
        """The releases that nodes can install, the newest first."""
        return self._get(Page[Release], "/v1/releases").items

    def updates(self) -> Updates:
        """Which version is wanted, and how far the fleet has come."""
        return self._get(Updates, "/v1/updates")

    def set_updates(
        self,
        version: str,
        *,
        canary: Sequence[str] | None = None,
        canaries: int | None = None,
        soak_s: float | None = None,
        at_once: int | None = None,
    ) -> Updates:
        """Have every node run a version: the canaries (by name, or so many) first, the others `soak_s` seconds later."""
        rings = given(canary=canary and list(canary), canaries=canaries, soak_s=soak_s, at_once=at_once)
        reply = self._send("PUT", "/v1/updates", repeatable=True, body={"version": version, **rings})
        return Updates.model_validate_json(reply.content)

    def promote_updates(self) -> Updates:
        """Give the version to all nodes now."""
        return self._post(Updates, "/v1/updates/promote")

    def pause_updates(self, paused: bool = True, reason: str | None = None) -> Updates:
        """Offer nobody anything, or go on."""
        return self._post(Updates, "/v1/updates/pause", {"paused": paused, **given(reason=reason)})
