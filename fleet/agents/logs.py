"""An attempt's log on disk: what it printed, in the order in which it arrived, and which stream each part came by.

log           the bytes of both streams and our own notes, one after another, up to the limit
log.runs      where each run of one stream begins: rows of RUN

A run is on record before its bytes are, so that whoever reads while the supervisor writes, or after it died, knows what
every byte is. Streams are pipes of their own: what was written to one is in order, and between the two the order is that
of arrival, which is not always that of writing.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

STDOUT, STDERR, SYSTEM = "stdout", "stderr", "system"  # system: what the supervisor has to say
_LETTERS = {STDOUT: b"o", STDERR: b"e", SYSTEM: b"s"}
_NAMES = {letter: name for name, letter in _LETTERS.items()}
_RUN = struct.Struct("<Qc")
RUNS = ".runs"  # what the name of the second file ends with
_RUN_COSTS = 64  # bytes of the limit: who switches streams at every byte pays for the bookkeeping
_TAIL_BYTES = 8192  # of each stream, kept beyond the limit: why a command failed is mostly said at its end


class CappedLog:
    """A log with a limit; what is over it is dropped but for its end, and a note says so."""

    def __init__(self, path: Path, limit: int) -> None:
        self._file = path.open("ab", buffering=0)
        self._runs = path.with_name(path.name + RUNS).open("ab", buffering=0)
        self._at = os.fstat(self._file.fileno()).st_size
        self._stream = ""
        self._room = limit
        self._limit = limit
        self._dropped = 0
        self._over: dict[str, int] = {}  # stream → its bytes beyond the limit
        self._tails: dict[str, bytes] = {}

    def write(self, chunk: bytes, stream: str = STDOUT) -> None:
        """Append what fits; the first byte that does not leaves the mark."""
        if not chunk:
            return
        if stream != self._stream and self._room > 0 and self._at > 0:
            self._room = max(0, self._room - _RUN_COSTS)
        fits = chunk[: self._room]
        self._append(fits, stream)
        self._room -= len(fits)
        if len(chunk) > len(fits) and not self._dropped:
            self.note(f"output cut here: over the limit of {self._limit} bytes")
        if over := chunk[len(fits) :]:
            self._dropped += len(over)
            self._over[stream] = self._over.get(stream, 0) + len(over)
            self._tails[stream] = (self._tails.get(stream, b"") + over[-_TAIL_BYTES:])[-_TAIL_BYTES:]

    def end_output(self) -> None:
        """No more output comes: the end of what was dropped, of each stream, behind a mark in that very stream."""
        for stream, tail in self._tails.items():
            lost = self._over[stream] - len(tail)
            mark = f"\n[tinyfleet: {lost} bytes of {stream} are missing here]\n" if lost else ""
            self._append(mark.encode() + tail, stream)
            self._dropped -= len(tail)
        self._tails = {}

    def note(self, line: str) -> None:
        """A line of our own, whatever the limit."""
        self._append(f"\n[tinyfleet: {line}]\n".encode(errors="backslashreplace"), SYSTEM)

    def _append(self, content: bytes, stream: str) -> None:
        if not content:
            return
        if stream != self._stream:
            self._runs.write(_RUN.pack(self._at, _LETTERS[stream]))
            self._stream = stream
        self._file.write(content)
        self._at += len(content)

    def close(self) -> None:
        """To the disk, with the number of bytes that were dropped."""
        self.end_output()
        if self._dropped:
            self.note(f"{self._dropped} bytes of output were dropped")
        os.fsync(self._file.fileno())
        self._file.close()
        self._runs.close()


@dataclass(frozen=True)
class Piece:
    """Bytes of a log from an offset on, and the streams they came by: pairs of a stream and its number of bytes."""

    content: bytes
    runs: tuple[tuple[str, int], ...]

    def text(self) -> str:
        """The runs as the wire has them: o120.e33."""
        return ".".join(f"{_LETTERS[stream].decode()}{size}" for stream, size in self.runs)


def read_piece(path: Path, offset: int, most_bytes: int, most_runs: int) -> Piece:
    """What a log has from `offset` on, at most so much of it; nothing when there is no more, or no log."""
    try:
        rows = _rows(path)
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(most_bytes)
    except FileNotFoundError:
        return Piece(b"", ())
    return _cut(content, offset, rows, most_runs)


def _rows(path: Path) -> list[tuple[int, str]]:
    try:
        recorded = path.with_name(path.name + RUNS).read_bytes()
    except FileNotFoundError:
        recorded = b""
    whole = len(recorded) // _RUN.size * _RUN.size
    return [(at, _NAMES.get(letter, STDOUT)) for at, letter in _RUN.iter_unpack(recorded[:whole])]


def _cut(content: bytes, offset: int, rows: list[tuple[int, str]], most_runs: int) -> Piece:
    place = max(0, bisect_right(rows, (offset, "\x7f")) - 1)
    end, runs = offset + len(content), list[tuple[str, int]]()
    at = offset
    while at < end and len(runs) < most_runs:
        stream = rows[place][1] if place < len(rows) else STDOUT
        until = min(end, rows[place + 1][0]) if place + 1 < len(rows) else end
        if until > at:
            runs.append((stream, until - at))
        at, place = max(at, until), place + 1
    return Piece(content[: at - offset], tuple(runs))
