"""Collect what has been kept for long enough, in batches: each a transaction of its own, a few hundred rows at most.

Rows that others refer to are never chosen, and the database's own rules (foreign keys) refuse what was chosen wrongly:
such a batch is undone and said. A blob goes in two steps inside one transaction, its row and then its file, which is
moved aside; an upload of the same bytes waits for the row and finds that the file has gone (fleet/blobs.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import CursorResult, delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fleet import db, events, histories, permissions, references
from fleet.blobs import ASIDE, Blobs
from fleet.models import Blob
from fleet.principals import Principal
from fleet.retention import BlobView, Bounds, Retention, going

log = logging.getLogger(__name__)
Open = Callable[[], AbstractContextManager[Session]]
BATCH = 200  # rows in one transaction
BATCHES = 25  # of one kind in one pass; the rest is for the next
LISTED = 1000  # blobs that are named one by one
CHANGING_S = 600.0  # so long before a look a change may have begun that was not seen by it


@dataclass
class Haul:
    """What has gone, or would: rows and bytes by kind, and blobs by address. `more`: a pass has left some."""

    rows: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    blobs: list[BlobView] = field(default_factory=list)
    more: bool = False

    def add(self, kind: str, rows: int, size: int = 0) -> None:
        """Count some more."""
        self.rows[kind] = self.rows.get(kind, 0) + rows
        self.bytes[kind] = self.bytes.get(kind, 0) + size


class Collector:
    """Collects by its settings; `batch` and `batches` bound a pass."""

    def __init__(
        self,
        read: Open,
        write: Open,
        blobs: Blobs,
        retention: Retention,
        batch: int = BATCH,
        batches: int = BATCHES,
    ) -> None:
        self._read = read
        self._write = write
        self._blobs = blobs
        self._retention = retention
        self._batch = batch
        self._batches = batches

    def tick(self) -> None:
        """One pass; what has gone is logged."""
        haul = self.collect()
        gone = {kind: count for kind, count in haul.rows.items() if count}
        if gone:
            log.info("collected %s, %s bytes", gone, sum(haul.bytes.values()))

    def look(self, now: float | None = None) -> Haul:
        """What would go, all of it. Nothing is changed."""
        haul = Haul()
        with self._read() as session:
            at = db.now(session) if now is None else now
            bounds = self._retention.bounds(at)
            for kind in histories.KINDS:
                haul.add(kind.name, *kind.count(session, bounds))
            found = self._unreferenced(session, bounds, None)
        _add_blobs(haul, found)
        haul.add("stray files", 0)
        for _, size in self._strays(bounds):
            haul.add("stray files", 1, size)
        return haul

    def collect(self, now: float | None = None) -> Haul:
        """One pass: what may go, up to a bound of each kind."""
        haul = Haul()
        with self._read() as session:
            at = db.now(session) if now is None else now
        bounds = self._retention.bounds(at)
        for kind in histories.KINDS:
            self._collect_rows(kind, bounds, haul)
        self._collect_blobs(bounds, at, haul)
        self._collect_strays(bounds, haul)
        return haul

    # --------------------------------------------------------------------------------------------- rows

    def _collect_rows(self, kind: histories.Kind, bounds: Bounds, haul: Haul) -> None:
        with self._read() as session:  # mostly there is nothing: then nobody waits for a writer
            if not kind.choose(session, bounds, 1):
                haul.add(kind.name, 0)
                return
        for _ in range(self._batches):
            try:
                with self._write() as session:
                    chosen = kind.choose(session, bounds, self._batch)
                    haul.add(kind.name, *kind.remove(session, chosen) if chosen else (0, 0))
            except IntegrityError:  # something refers to them that this does not know of: they stay
                log.exception("%s could not be collected: something refers to them", kind.name)
                return
            if len(chosen) < self._batch:
                return
        haul.more = True

    # -------------------------------------------------------------------------------------------- blobs

    def _unreferenced(self, session: Session, bounds: Bounds, limit: int | None) -> list[BlobView]:
        touched = func.coalesce(Blob.touched_at, Blob.created_at)
        old = select(Blob.address, Blob.size, touched).where(touched < bounds.blobs).order_by(Blob.address)
        candidates = [BlobView(*row) for row in session.execute(old)]
        if not candidates:
            return []
        return going(candidates, references.referenced(session), bounds)[:limit]

    def _collect_blobs(self, bounds: Bounds, now: float, haul: Haul) -> None:
        most = self._batch * self._batches
        haul.add("blobs", 0)
        with self._read() as session:
            began = db.now(session)
            chosen = self._unreferenced(session, bounds, most + 1)
        haul.more |= len(chosen) > most
        for start in range(0, min(len(chosen), most), self._batch):
            batch = chosen[start : min(start + self._batch, most)]
            gone = self._remove_blobs(batch, bounds, min(began, now) - CHANGING_S)
            _add_blobs(haul, gone)

    def _remove_blobs(self, chosen: Sequence[BlobView], bounds: Bounds, since: float) -> list[BlobView]:
        """Row and file of each that is still old and that nothing refers to since it was chosen."""
        aside: list[Path] = []
        gone: list[BlobView] = []
        try:
            with self._write() as session:
                touched = func.coalesce(Blob.touched_at, Blob.created_at)
                for each in going(chosen, references.referenced(session, since), bounds):
                    mine = (Blob.address == each.address) & (touched < bounds.blobs)
                    if _count(session.execute(delete(Blob).where(mine))):
                        aside += self._blobs.put_aside(each.address)
                        gone.append(each)
        except BaseException:
            for path in aside:
                self._blobs.put_back(path)
            raise
        for path in aside:
            path.unlink(missing_ok=True)
        return gone

    def _collect_strays(self, bounds: Bounds, haul: Haul) -> None:
        haul.add("stray files", 0)
        for path, size in self._strays(bounds):
            path.unlink(missing_ok=True)
            haul.add("stray files", 1, size)

    def _strays(self, bounds: Bounds) -> Iterator[tuple[Path, int]]:
        """Files without a row, as an upload that broke off leaves them. One that was set aside by a pass that did not
        get to its end, and has its row, is put back."""
        for files in self._blobs.old_files(bounds.blobs):
            with self._read() as session:
                kept = _with_rows(session, [path.stem for path, _ in files])
            for path, size in files:
                if path.suffix == ASIDE and path.stem in kept:
                    self._blobs.put_back(path)
                elif path.name not in kept:
                    yield path, size


def _with_rows(session: Session, names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(names), BATCH):
        query = select(Blob.address).where(Blob.address.in_(names[start : start + BATCH]))
        found |= set(session.scalars(query))
    return found


def _count(result: object) -> int:
    assert isinstance(result, CursorResult)
    return int(result.rowcount)


def _add_blobs(haul: Haul, found: Sequence[BlobView]) -> None:
    haul.add("blobs", len(found), sum(each.size for each in found))
    haul.blobs += found[: LISTED - len(haul.blobs)]


def asked(session: Session, principal: Principal, haul: Haul, now: float) -> None:
    """Somebody asked for a pass: it is in the audit."""
    permissions.require(principal, permissions.Permission.COLLECT)
    events.audit(session, principal, "gc", "fleet:gc", {"rows": haul.rows, "bytes": haul.bytes}, now)
