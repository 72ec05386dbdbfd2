"""The leader's part in the audit: seal what requests have written, and every hour say and keep an anchor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from api.deps import OpenSession
from fleet import audit
from fleet.db import engine_for, now, reading, session_factory
from fleet.settings import Settings

log = logging.getLogger(__name__)


class AuditChain:
    """Seals at every tick, within a second of the request; one writer, so that requests do not wait for each other."""

    def __init__(self, settings: Settings, read: OpenSession, write: OpenSession) -> None:
        self._anchors = settings.anchors_file
        self._key = audit.key(settings.audit_key_file)
        self._read = read
        self._write = write

    def seal(self) -> None:
        """Seal what there is; then, when an hour is over, append an anchor to the file and to the log."""
        with self._read() as session:
            there_is = audit.unsealed(session)
        while there_is:
            with self._write() as session:
                there_is = audit.seal(session, self._key) == audit.AT_ONCE
        with self._read() as session:
            fresh = audit.export(session, self._anchors, now(session))
        if fresh is not None:
            log.warning("audit anchor: %s", audit.line(fresh))


def audit_verdict(settings: Settings, kept: Sequence[Path]) -> audit.Verdict:
    """What is found in the audit of a data folder, against its own anchors and those kept elsewhere. InvalidSpec."""
    key = audit.known_key(settings.audit_key_file)
    held = [each for path in (settings.anchors_file, *kept) for each in audit.anchors(path)]
    with _reading(settings)() as session:
        return audit.verify(session, key, held, now(session))


def current_anchor(settings: Settings) -> str | None:
    """The newest seal as a line of a file of anchors."""
    with _reading(settings)() as session:
        found = audit.anchor(session, now(session))
    return None if found is None else audit.line(found)


def _reading(settings: Settings) -> OpenSession:
    return partial(reading, session_factory(engine_for(settings.database_url)))
