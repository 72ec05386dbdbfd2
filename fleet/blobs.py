"""Content-addressed bytes: a file per blob, named by the SHA3-256 of what it holds, and a row that says so.

The file is written first and in no transaction: a disk that takes its time must not keep other writers waiting.
A file without its row harms nobody, and the next upload of the same bytes finds it.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from sqlalchemy.orm import Session

from fleet.agents.protocol import blob_address
from fleet.errors import InvalidSpec, NotFound, TooLarge
from fleet.models import Blob

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
        if not self._whole(address, len(content)):
            self._write(address, content)
        return address

    def put(self, session: Session, content: bytes, now: float, expected: str | None = None) -> str:
        """`keep`, and the row, in a session that holds no lock yet."""
        address = self.keep(content, expected)
        record(session, address, len(content), now)
        return address

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


def record(session: Session, address: str, size: int, now: float) -> None:
    """Say that the file of `address` is there."""
    if session.get(Blob, address) is None:
        session.add(Blob(address=address, size=size, created_at=now))
        session.flush()


def known(session: Session, address: str) -> bool:
    """Has the blob's row been written?"""
    return session.get(Blob, address) is not None


def size(session: Session, address: str) -> int:
    """The size in bytes of a blob; NotFound when the fleet has none at `address`."""
    row = session.get(Blob, address)
    if row is None:
        raise NotFound("blob", address)
    return row.size
