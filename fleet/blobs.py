"""Content-addressed bytes: a file per blob, named by the SHA3-256 of what it holds, and a row that says so.

The file is written first and in no transaction: a disk that takes its time must not keep other writers waiting.
A file without its row harms nobody, and the next upload of the same bytes finds it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fleet import holders
from fleet.agents.protocol import blob_address
from fleet.errors import InvalidSpec, NotFound, TooLarge
from fleet.models import Blob

ASIDE = ".gone"
_ADDRESS = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """The files under `directory`; a file appears whole (written aside, synced, renamed) or not at all."""

    def __init__(self, directory: Path, max_bytes: int = 64 << 20) -> None:
        self.directory = directory
        self.max_bytes = max_bytes

    def keep(self, content: bytes, expected: str | None = None) -> str:
        """Write the file of `content`; returns its address. InvalidSpec when `expected` is another one."""
        if len(content) > self.max_bytes:
            raise TooLarge("blob", len(content), self.max_bytes)
        address = blob_address(content)
        if expected is not None and expected != address:
            raise InvalidSpec("hash", f"the content's address is {address}, not {expected}")
        if self._whole(address, len(content)):
            with suppress(FileNotFoundError):  # the collector is faster: `record` looks again
                os.utime(self.path(address))  # a file without a row is no stray so soon
        else:
            self._write(address, content)
        return address

    def put(
        self, session: Session, content: bytes, now: float, expected: str | None = None, holder: str = ""
    ) -> str:
        """`keep`, and the row, and that it is the holder's (see fleet.holders), in a session that holds no lock yet."""
        address = self.keep(content, expected)
        self.record(session, address, content, now)
        if holder:
            holders.hold(session, holder, [address], now)
        return address

    def record(self, session: Session, address: str, content: bytes, now: float) -> None:
        """Say that the file of `content` is there, in a session that writes.

        From here on the collector does not take it; it may have taken the file between `keep` and now."""
        record(session, address, len(content), now)
        if not self._whole(address, len(content)):
            self._write(address, content)

    def get(self, address: str) -> bytes:
        """The bytes at `address`; NotFound when there are none, or when the file no longer matches its name."""
        try:
            content = self.path(address).read_bytes()
        except FileNotFoundError as error:
            raise NotFound("blob", address) from error
        if blob_address(content) != address:
            raise NotFound("intact blob", address)
        return content

    def path(self, address: str) -> Path:
        """The file of `address`, which may not exist."""
        if not _ADDRESS.fullmatch(address):
            raise InvalidSpec("hash", f"{address[:80]!r} is not 64 hexadecimal digits")
        return self.directory / address[:2] / address

    # ------------------------------------------------------------------------------- for the collector

    def put_aside(self, address: str) -> list[Path]:
        """Move the file away, under a name that nobody reads; where it is now, nothing if there is none."""
        aside = self.path(address).with_suffix(ASIDE)
        try:
            return [self.path(address).replace(aside)]
        except FileNotFoundError:
            return []

    def put_back(self, aside: Path) -> None:
        """Undo `put_aside`."""
        aside.replace(aside.with_suffix(""))

    def old_files(self, before: float) -> Iterator[list[tuple[Path, int]]]:
        """Files written or touched last before then (epoch seconds), with their sizes in bytes, folder by folder; with
        or without a row."""
        for folder in sorted(self.directory.glob("??")):
            found = []
            for path in folder.iterdir():
                with suppress(FileNotFoundError):
                    about = path.stat()
                    found += [(path, about.st_size)] if about.st_mtime < before else []
            yield found

    def _whole(self, address: str, size: int) -> bool:
        path = self.path(address)
        return path.exists() and path.stat().st_size == size

    def _write(self, address: str, content: bytes) -> None:
        path = self.path(address)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
        _sync_directory(path.parent)  # or a row could outlive a power cut that its file did not


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


TOUCH_S = 3600.0  # a touch is written when the last one is so old


def record(session: Session, address: str, size: int, now: float) -> None:
    """Say that the file of `address` is there."""
    while address not in touch(session, [address], now):
        with suppress(IntegrityError), session.begin_nested():  # another upload of the same was faster
            session.execute(insert(Blob).values(address=address, size=size, created_at=now))
            return


def touch(session: Session, addresses: Collection[str], now: float) -> set[str]:
    """Those of the addresses that there are; none of them is collected for a while: what will refer to them is on its
    way."""
    touched = func.coalesce(Blob.touched_at, Blob.created_at)
    found = session.execute(select(Blob.address, touched).where(Blob.address.in_(addresses))).all()
    stale = [address for address, at in found if at < now - TOUCH_S]
    fresh = {address for address, _ in found}.difference(stale)
    if not stale:
        return fresh
    # one that a collector is taking out is waited for here, and then is not among them
    mine = update(Blob).where(Blob.address.in_(stale)).values(touched_at=now).returning(Blob.address)
    return fresh | set(session.scalars(mine.execution_options(synchronize_session=False)))


def is_stale(session: Session, address: str, now: float) -> bool:
    """Would a touch be written?"""
    row = session.get(Blob, address)
    return row is not None and (row.touched_at or row.created_at) < now - TOUCH_S


def known(session: Session, address: str) -> bool:
    """Has the blob's row been written?"""
    return session.get(Blob, address) is not None


def size(session: Session, address: str) -> int:
    """The size in bytes of a blob; NotFound when the fleet has none at `address`."""
    row = session.get(Blob, address)
    if row is None:
        raise NotFound("blob", address)
    return row.size
