"""What each node last said about itself, and its last hour in short.

One process on SQLite keeps it in memory: thirty texts a second are no business of a database with one writer, and what a
restart loses the next push brings. Several processes on PostgreSQL keep it in UNLOGGED tables, so that any of them can
be scraped. A text counts when it was signed after the one that is kept: that is its protection against being sent
again, and costs no row of nonces.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fleet.errors import StaleWrite
from fleet.readings import GPU_FIELDS, GpuReading, Reading
from fleet.telemetry_rows import ExpositionRow, PointRow

POINT_EVERY_S = 30.0
KEPT_S = 3600.0
_FIELDS = (*GPU_FIELDS.values(), "temperature_celsius")
OpenSession = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True)
class Exposition:
    """One text of a node: gzipped, when it came, when it was signed (both epoch seconds), and what was read in it."""

    packed: bytes
    received_at: float
    signed_at: float
    reading: Reading


@dataclass(frozen=True)
class Latest:
    """The latest exposition without its text: when it came, when it was signed, and what was read in it."""

    received_at: float
    signed_at: float
    reading: Reading

    @property
    def skew_s(self) -> float:
        """How far the node's clock was behind ours, with what the way took."""
        return self.received_at - self.signed_at


@dataclass(frozen=True)
class Point:
    """One moment of a node's last hour."""

    at: float
    reading: Reading


class Telemetry(Protocol):
    """Where expositions are kept. May be used from any thread."""

    def put(self, node_id: int, said: Exposition) -> None:
        """Keep it as the node's latest. StaleWrite when one that was signed later, or the same one, is kept."""

    def latest(self, node_id: int) -> Exposition | None:
        """The node's latest; None before the first."""

    def at_hand(self, node_id: int) -> tuple[Exposition, float] | None:
        """The node's latest and how many seconds ago it came, without waiting for anything; None where that needs a
        database, and before the first."""

    def readings(self, node_ids: Sequence[int]) -> Mapping[int, Latest]:
        """These nodes' latest; a node that never said anything is missing."""

    def history(self, node_id: int, since: float) -> Sequence[Point]:
        """The node's points after `since`, oldest first."""


def telemetry_for(database_url: str, read: OpenSession, write: OpenSession) -> Telemetry:
    """The store that goes with a database."""
    return InMemory() if database_url.startswith("sqlite") else InRows(read, write)


def _stale(node_id: int) -> StaleWrite:
    return StaleWrite("exposition", node_id, "one that was signed later was accepted already")


class InMemory:
    """In this process. An hour of a node with 8 GPUs is some 50 KiB."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[int, Exposition] = {}
        self._points: dict[int, deque[_Packed]] = {}

    def put(self, node_id: int, said: Exposition) -> None:
        """See Telemetry."""
        with self._lock:
            before = self._latest.get(node_id)
            if before is not None and said.signed_at <= before.signed_at:
                raise _stale(node_id)
            self._latest[node_id] = said
            points = self._points.setdefault(node_id, deque(maxlen=int(KEPT_S / POINT_EVERY_S)))
            if not points or said.received_at - points[-1].at >= POINT_EVERY_S:
                points.append(_Packed.of(said, points[-1].names if points else ()))

    def latest(self, node_id: int) -> Exposition | None:
        """See Telemetry."""
        return self._latest.get(node_id)

    def at_hand(self, node_id: int) -> tuple[Exposition, float] | None:
        """See Telemetry. This machine's clock is the database's."""
        said = self._latest.get(node_id)
        return None if said is None else (said, time.time() - said.received_at)

    def readings(self, node_ids: Sequence[int]) -> Mapping[int, Latest]:
        """See Telemetry."""
        found = ((node_id, self._latest.get(node_id)) for node_id in node_ids)
        return {
            node_id: Latest(each.received_at, each.signed_at, each.reading)
            for node_id, each in found
            if each is not None
        }

    def history(self, node_id: int, since: float) -> Sequence[Point]:
        """See Telemetry."""
        with self._lock:
            packed = list(self._points.get(node_id, ()))
        return [each.point() for each in packed if each.at > since]


@dataclass(frozen=True)
class _Packed:
    """A point as 4-byte floats: as objects, an hour of 300 nodes would take ten times the room."""

    at: float
    names: tuple[str, ...]
    values: array[float]

    @staticmethod
    def of(said: Exposition, known: tuple[str, ...]) -> _Packed:
        """`known`: the names of the point before, which is shared when they are the same."""
        names = tuple(each.gpu for each in said.reading.gpus)
        power = math.nan if said.reading.power_watts is None else said.reading.power_watts
        values = [each.values.get(name, math.nan) for each in said.reading.gpus for name in _FIELDS]
        return _Packed(said.received_at, known if names == known else names, array("f", [power, *values]))

    def point(self) -> Point:
        """The point; a value keeps some seven digits."""
        power, *values = self.values
        gpus = []
        for number, name in enumerate(self.names):
            mine = values[number * len(_FIELDS) : (number + 1) * len(_FIELDS)]
            known = {key: value for key, value in zip(_FIELDS, mine, strict=True) if not math.isnan(value)}
            gpus.append(GpuReading(name, known))
        return Point(self.at, Reading(tuple(gpus), None if math.isnan(power) else power))


class InRows:
    """In two tables, for processes that share a database."""

    def __init__(self, read: OpenSession, write: OpenSession) -> None:
        self._read = read
        self._write = write

    def put(self, node_id: int, said: Exposition) -> None:
        """See Telemetry."""
        document = said.reading.document()
        values: dict[str, Any] = {
            "packed": said.packed,
            "received_at": said.received_at,
            "signed_at": said.signed_at,
            "reading": document,
        }
        with self._write() as session:
            if not _replaced(session, node_id, said.signed_at, values):
                try:
                    with session.begin_nested():
                        session.add(ExpositionRow(node_id=node_id, **values))
                except IntegrityError as error:
                    raise _stale(node_id) from error
            _add_point(session, node_id, said.received_at, document)

    def latest(self, node_id: int) -> Exposition | None:
        """See Telemetry."""
        with self._read() as session:
            row = session.get(ExpositionRow, node_id)
        if row is None:
            return None
        return Exposition(row.packed, row.received_at, row.signed_at, Reading.of_document(row.reading))

    def at_hand(self, node_id: int) -> tuple[Exposition, float] | None:
        """See Telemetry: another process may have a newer one."""
        return None

    def readings(self, node_ids: Sequence[int]) -> Mapping[int, Latest]:
        """See Telemetry."""
        row = ExpositionRow
        columns = (row.node_id, row.received_at, row.signed_at, row.reading)
        with self._read() as session:
            rows = session.execute(select(*columns).where(ExpositionRow.node_id.in_(node_ids))).all()
        return {
            node_id: Latest(at, signed_at, Reading.of_document(document))
            for node_id, at, signed_at, document in rows
        }

    def history(self, node_id: int, since: float) -> Sequence[Point]:
        """See Telemetry."""
        wanted = (
            select(PointRow).where(PointRow.node_id == node_id, PointRow.at > since).order_by(PointRow.at)
        )
        with self._read() as session:
            return [Point(row.at, Reading.of_document(row.reading)) for row in session.scalars(wanted)]


def _replaced(session: Session, node_id: int, signed_at: float, values: Mapping[str, Any]) -> bool:
    older = update(ExpositionRow).where(ExpositionRow.node_id == node_id, ExpositionRow.signed_at < signed_at)
    return cast("CursorResult[Any]", session.execute(older.values(values))).rowcount == 1


def _add_point(session: Session, node_id: int, at: float, document: dict[str, Any]) -> None:
    newest = session.scalar(select(func.max(PointRow.at)).where(PointRow.node_id == node_id))
    if newest is not None and at - newest < POINT_EVERY_S:
        return
    session.add(PointRow(node_id=node_id, at=at, reading=document))
    session.execute(delete(PointRow).where(PointRow.node_id == node_id, PointRow.at < at - KEPT_S))
