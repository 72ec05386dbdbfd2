"""How a node becomes known: with its join token, once, it makes its own key the node's identity."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from fleet.agents.authorities import pinned
from fleet.agents.client import ControlPlane, Unreachable, backoff
from fleet.agents.journal import Identity, Journal
from fleet.agents.keys import Signer
from fleet.agents.protocol import Inventory
from fleet.agents.settings import Settings, SettingsError

_log = logging.getLogger(__name__)


def check_can_join(settings: Settings, journal: Journal) -> None:
    """SettingsError when this node has not enrolled and has no join token to do it with."""
    if journal.identity() is None and not settings.join_token:
        raise SettingsError(
            f"{settings.state}: this node has not enrolled, and there is no join token: give --join-token-file FILE "
            "(a file that exists) or set TINYFLEET_JOIN_TOKEN; `tinyfleet join-token create` makes one"
        )


def identity(
    settings: Settings, journal: Journal, signer: Signer, inventory: Inventory, pause: Callable[[float], bool]
) -> Identity | None:
    """Who this node is, enrolled now if it never was; None when `pause(seconds)` says to stop waiting for a server.

    Refused or Rejected when the server does not accept it.
    """
    known = journal.identity()
    if known is not None:
        return known
    new = _enroll(settings, signer, inventory, pause)
    if new is not None:
        journal.enrolled(new)
        _log.info("enrolled at %s as node %d, %s", new.server, new.node_id, new.name)
    return new


def _enroll(
    settings: Settings, signer: Signer, inventory: Inventory, pause: Callable[[float], bool]
) -> Identity | None:
    failures = 0
    with ControlPlane(settings.server, signer, pinned(settings.state)) as control:
        while True:
            try:
                answer = control.enroll(settings.join_token, settings.name, inventory)
                return Identity(answer.node_id, answer.name, settings.server)
            except Unreachable as error:
                failures += 1
                _log.warning("enrolment: %s", error)
            if pause(backoff(failures, random.random())):
                return None
