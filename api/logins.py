"""What happens to logins by the clock: what is over ends, and nodes get certificates of their own. Part of each tick."""

from __future__ import annotations

import logging
from pathlib import Path

from api.deps import OpenSession
from fleet import access, ssh_authority
from fleet.db import now
from fleet.errors import FleetError

log = logging.getLogger(__name__)


class Logins:
    """Looks each time it is called; writes only when there is something to write."""

    def __init__(self, authority: Path, read: OpenSession, write: OpenSession) -> None:
        self._authority, self._read, self._write = authority, read, write

    def tick(self) -> None:
        """End what is overdue, and certify nodes when there is an authority."""
        with self._read() as session:
            moment = now(session)
            late = access.overdue(session, moment)
            bare = ssh_authority.hosts_due(session, moment) if self._authority.exists() else []
        for grant_id in late:
            with self._write() as session:
                access.conclude(session, grant_id, moment)
        for node_id, name, key in bare:
            self._certify(node_id, name, key, moment)

    def _certify(self, node_id: int, name: str, key: str, moment: float) -> None:
        try:
            with self._write() as session:
                ssh_authority.certify_host(session, self._authority, node_id, name, key, moment)
        except FleetError as error:
            log.warning("node %s got no certificate: %s", name, error)
