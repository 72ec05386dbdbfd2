"""The node's cache of data sets: each is staged once, checked to the byte as it arrives, and shared read-only by attempts.

data/ADDRESS/            the files of a data set that is whole, written by nobody any more
data/ADDRESS.json        what they looked like when they had been checked, and when they were used last
data/.ADDRESS/           one that is being staged; what is there already is checked and kept when it goes on

Those not used for longest go when room is needed; never one that an attempt here wants.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fleet.agents.data_spec import PART_BYTES, CachedData, DataFile, DataList
from fleet.agents.durable import read_json, write_json
from fleet.agents.protocol import blob_address

Fetch = Callable[[str], bytes]  # the bytes of a blob, checked against its address
Said = Callable[[int, int], None]  # bytes that are here, of so many


class Unstageable(Exception):
    """A data set cannot be had here, in words. `theirs`: nor anywhere else, for it is none."""

    def __init__(self, message: str, *, theirs: bool) -> None:
        super().__init__(message)
        self.theirs = theirs


@dataclass(frozen=True)
class _Kept:
    address: str
    bytes: int
    used_at: float


class DataSets:
    """The data sets of one state directory, at most `limit_bytes` of them."""

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self.root = root
        self._limit_bytes = limit_bytes

    def path(self, address: str) -> Path:
        """Where a data set's files are, once it is whole."""
        return self.root / address

    def has(self, address: str) -> bool:
        """Whether it is here, whole and untouched since it was checked."""
        record = self._record(address)
        if record is None:
            return False
        try:
            return all(_look(self.path(address) / name) == stamp for name, stamp in record["files"].items())
        except OSError:
            return False

    def kept(self) -> list[CachedData]:
        """What is here, in order of addresses."""
        found = sorted(self._all(), key=lambda kept: kept.address)
        return [CachedData(data_set=kept.address, bytes=kept.bytes) for kept in found]

    def use(self, address: str, now: float) -> None:
        """It is used now (epoch seconds): the last to go."""
        record = self._record(address)
        if record is not None:
            write_json(self._note(address), {**record, "used_at": now}, durable=False)

    def stage(self, address: str, fetch: Fetch, wanted: Collection[str], said: Said, now: float) -> None:
        """Have it, whatever is here of it already; others go for it, but for those that are `wanted`. Unstageable, and
        whatever `fetch` raises."""
        self.root.mkdir(mode=0o711, exist_ok=True)
        self._forget(address)
        listed = _listed(address, fetch)
        self._make_room(listed.size, {*wanted, address})
        folder = self.root / f".{address}"
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
        done = 0
        for file in listed.files:
            for part in _staged(folder, file, fetch):
                done += part
                said(done, listed.size)
        _close(folder)
        os.replace(folder, self.path(address))
        stamps = {file.path: _look(self.path(address) / file.path) for file in listed.files}
        write_json(self._note(address), {"bytes": listed.size, "used_at": now, "files": stamps})

    def _make_room(self, size: int, wanted: Collection[str]) -> None:
        held = sorted(self._all(), key=lambda kept: kept.used_at)
        staying = sum(kept.bytes for kept in held if kept.address in wanted)
        if size + staying > self._limit_bytes:
            raise Unstageable(
                f"it has {size} bytes, and this node keeps {self._limit_bytes} of data sets, {staying} of them in use",
                theirs=False,
            )
        excess = size + sum(kept.bytes for kept in held) - self._limit_bytes
        for kept in held:
            if excess <= 0:
                return
            if kept.address not in wanted:
                self._forget(kept.address)
                excess -= kept.bytes

    def _forget(self, address: str) -> None:
        """The note first: a folder without one is none."""
        self._note(address).unlink(missing_ok=True)
        _remove(self.path(address))

    def _note(self, address: str) -> Path:
        return self.root / f"{address}.json"

    def _record(self, address: str) -> dict[str, Any] | None:
        try:
            found = read_json(self._note(address))
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _all(self) -> Iterable[_Kept]:
        for note in self.root.glob("*.json") if self.root.is_dir() else ():
            record = self._record(note.stem)
            if record is not None and self.path(note.stem).is_dir():
                yield _Kept(note.stem, int(record["bytes"]), float(record["used_at"]))


def _listed(address: str, fetch: Fetch) -> DataList:
    try:
        return DataList.model_validate_json(fetch(address))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Unstageable(
            f"blob {address} lists no data set: {where}: {first['msg']}", theirs=True
        ) from error


def _staged(folder: Path, file: DataFile, fetch: Fetch) -> Iterable[int]:
    """Have one file; the sizes of its parts, one after another as they are here."""
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r+b" if path.exists() else "w+b") as out:
        for part in file.parts:
            here = out.tell()
            content = out.read(PART_BYTES)
            if blob_address(content) != part:
                content = fetch(part)
                out.seek(here)
                out.write(content)
            yield len(content)
        if out.tell() != file.size:
            raise Unstageable(f"{file.path} has {out.tell()} bytes, not {file.size}", theirs=True)
        out.truncate()
        out.flush()
        os.fsync(out.fileno())


def _close(folder: Path) -> None:
    """Nobody writes there any more, and everybody may read."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            Path(place, name).chmod(0o444)
        Path(place).chmod(0o555)


def _look(path: Path) -> list[int]:
    """What changes when a file does: its change time cannot be set by whoever writes to it."""
    about = path.stat(follow_symlinks=False)
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]


def _remove(folder: Path) -> None:
    for place, _, _ in os.walk(folder):
        Path(place).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
