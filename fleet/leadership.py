"""Which of several servers on one database decides: the one that holds a lease, a row that it renews in time.

A session's advisory lock would do on a plain connection, and breaks behind a pooler that gives the session to others.
Held is what is certain: less a margin, and counted by this process's own clock from before it asked. A tick that
overruns its lease writes nothing more, because each of its transactions looks at the row first and holds it meanwhile.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fleet import db
from fleet.errors import StaleWrite
from fleet.scheduling_rows import Leader

LEASE_S = 15.0
MARGIN_S = 3.0  # before its end it counts as over
RENEWED_AFTER_S = 4.0
NAME = "controllers"

Write = Callable[[], AbstractContextManager[Session]]


class Leadership:
    """This process's claim to decide. `alone`: nobody else can be on this database (SQLite's, behind the lock of the data
    folder), so that there is no lease."""

    def __init__(
        self, write: Write, alone: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.holder = secrets.token_hex(8)
        self._alone = alone
        self._write = write
        self._clock = clock
        self._certain_until = self._renew_at = float("-inf")

    def held(self) -> bool:
        """True when this process may decide now; takes a lease that nobody holds any more, and renews its own."""
        asked = self._clock()
        if self._alone or asked < self._renew_at:
            return True
        try:
            with self._write() as session:
                won = self._take(session)
        except IntegrityError:  # another one was first, ever
            won = False
        if won:
            self._certain_until, self._renew_at = asked + LEASE_S - MARGIN_S, asked + RENEWED_AFTER_S
        else:
            self._renew_at = float("-inf")
        return won and self._clock() < self._certain_until

    def _take(self, session: Session) -> bool:
        now = db.now(session)
        free = (Leader.holder == self.holder) | (Leader.until < now)
        mine = update(Leader).where(Leader.name == NAME, free).values(holder=self.holder, until=now + LEASE_S)
        if cast("CursorResult[Any]", session.execute(mine)).rowcount:
            return True
        if session.get(Leader, NAME) is not None:
            return False
        session.add(Leader(name=NAME, holder=self.holder, until=now + LEASE_S))
        session.flush()
        return True

    def check(self, session: Session) -> None:
        """StaleWrite unless this process holds the lease; nobody takes it before the transaction has ended."""
        if self._alone:
            return
        holder = session.scalars(select(Leader).where(Leader.name == NAME).with_for_update(read=True)).first()
        if holder is None or holder.holder != self.holder or holder.until < db.now(session):
            raise StaleWrite("leader", NAME, "another server decides now")

    def release(self) -> None:
        """Let another one decide at once."""
        self._renew_at = float("-inf")
        if self._alone:
            return
        with self._write() as session:
            mine = (Leader.name == NAME) & (Leader.holder == self.holder)
            session.execute(update(Leader).where(mine).values(until=0.0))
