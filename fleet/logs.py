"""Logs of attempts as the fleet keeps them: chunks in order, each of one stream, up to a limit with a visible mark.

A chunk has a sequence number within its attempt, which is the order of all of its streams, and an offset in its stream. What an
agent sends twice is kept once: it counts bytes, and continues where the fleet is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet.errors import InvalidSpec, NotFound, StaleWrite
from fleet.models import Attempt, Lease, LogChunk

MAX_LOG_BYTES = 4 << 20
MAX_NOTES_BYTES = 64 << 10  # of the agent's own, beyond the limit: how it ended is not to be lost
TRUNCATED = b"\n[the log is truncated here: it is longer than 4 MiB]\n"
STDOUT, STDERR, SYSTEM = STREAMS = ("stdout", "stderr", "system")
_BY_LETTER = {"o": STDOUT, "e": STDERR, "s": SYSTEM}
RUNS = r"^[oes][0-9]{1,7}(\.[oes][0-9]{1,7}){0,511}$"
Run = tuple[str, bytes]


def runs_of(text: str | None, data: bytes) -> list[Run]:
    """The bytes by stream, of a text such as o120.e33; all of them are stdout's without one. InvalidSpec."""
    if text is None:
        return [(STDOUT, data)]
    if not re.match(RUNS, text):
        raise InvalidSpec(
            "runs", "must be letters of streams (o, e, s) with numbers of bytes, as in o120.e33"
        )
    found: list[Run] = []
    at = 0
    for run in text.split("."):
        size = int(run[1:])
        found.append((_BY_LETTER[run[0]], data[at : at + size]))
        at += size
    if at != len(data):
        raise InvalidSpec("runs", f"{at} bytes are declared and {len(data)} were sent")
    return found


def append(
    session: Session,
    node_id: int,
    attempt_id: int,
    fence: int,
    offset: int,
    data: bytes,
    runs: str | None = None,
) -> int:
    """Append a piece of an attempt's log; returns how many bytes of the log there are: send from there on.

    A piece that begins too far on is not kept; an overlap is skipped. Beyond 4 MiB bytes are counted, not
    kept, with a visible mark. NotFound for another node's attempt, StaleWrite for an old fence, InvalidSpec for runs
    that are not the data's.
    """
    attempt = session.get(Attempt, attempt_id)
    if attempt is None or attempt.node_id != node_id:
        raise NotFound("attempt", attempt_id)
    held = session.scalars(select(Lease.id).where(Lease.attempt_id == attempt_id)).one()
    if held != fence:
        raise StaleWrite("attempt", attempt_id, f"fence {fence} is not {held}")
    pieces = runs_of(runs, data)
    known = attempt.log_bytes
    if offset <= known < offset + len(data):
        _Writer(session, attempt_id).keep(_beyond(pieces, known - offset))
        attempt.log_bytes = offset + len(data)
        session.flush()
    return attempt.log_bytes


def _beyond(pieces: Sequence[Run], skip: int) -> Iterator[Run]:
    """What is left of the pieces after so many bytes."""
    for stream, content in pieces:
        rest = content[skip:]
        skip = max(0, skip - len(content))
        if rest:
            yield stream, rest


class _Writer:
    """Where an attempt's log ends, and what is written there."""

    def __init__(self, session: Session, attempt_id: int) -> None:
        self._session = session
        self._attempt_id = attempt_id
        last = (
            select(LogChunk.sequence, LogChunk.offset + func.length(LogChunk.data))
            .where(LogChunk.attempt_id == attempt_id)
            .order_by(LogChunk.sequence.desc())
            .limit(1)
        )
        found = session.execute(last).one_or_none()
        self._sequence, self._end = (found[0] + 1, found[1]) if found else (0, 0)
        self._stream_ends: dict[str, int] = {}

    def keep(self, pieces: Iterator[Run]) -> None:
        for stream, content in pieces:
            if stream == SYSTEM:
                self._add(stream, content[: max(0, MAX_LOG_BYTES + MAX_NOTES_BYTES - self._end)])
                continue
            room = max(0, MAX_LOG_BYTES - self._end)
            self._add(stream, content[:room])
            if len(content) > room and not self._marked():
                self._add(SYSTEM, TRUNCATED)

    def _marked(self) -> bool:
        mark = select(LogChunk.sequence).where(LogChunk.attempt_id == self._attempt_id)
        self._session.flush()
        return self._session.scalar(mark.where(LogChunk.data == TRUNCATED).limit(1)) is not None

    def _add(self, stream: str, content: bytes) -> None:
        if not content:
            return
        within = self._stream_end(stream)
        self._session.add(
            LogChunk(
                attempt_id=self._attempt_id,
                offset=self._end,
                sequence=self._sequence,
                stream=stream,
                stream_offset=within,
                data=content,
            )
        )
        self._sequence += 1
        self._end += len(content)
        self._stream_ends[stream] = within + len(content)

    def _stream_end(self, stream: str) -> int:
        if stream not in self._stream_ends:
            last = (
                select(LogChunk.stream_offset + func.length(LogChunk.data))
                .where(LogChunk.attempt_id == self._attempt_id, LogChunk.stream == stream)
                .order_by(LogChunk.sequence.desc())
                .limit(1)
            )
            self._stream_ends[stream] = self._session.scalar(last) or 0
        return self._stream_ends[stream]


def read(
    session: Session, attempt_id: int, offset: int = 0, limit: int = 1 << 20, stream: str | None = None
) -> bytes:
    """Up to `limit` bytes of an attempt's log from `offset` on: of all streams as they arrived, or of one."""
    begins = LogChunk.offset if stream is None else LogChunk.stream_offset
    query = select(begins, LogChunk.data).where(LogChunk.attempt_id == attempt_id)
    if stream is not None:
        query = query.where(LogChunk.stream == stream)
    query = query.where(begins + func.length(LogChunk.data) > offset).order_by(LogChunk.sequence)
    found = bytearray()
    for at, data in session.execute(query.execution_options(yield_per=64)):
        found += data[max(0, offset - at) :]
        if len(found) >= limit:
            break
    return bytes(found[:limit])


def chunks(session: Session, attempt_id: int, first: int, most_bytes: int, most: int) -> list[LogChunk]:
    """An attempt's chunks from the sequence number `first` on; at least one, if there is one, and then within the limits."""
    query = select(LogChunk).where(LogChunk.attempt_id == attempt_id, LogChunk.sequence >= first)
    found: list[LogChunk] = []
    size = 0
    for chunk in session.scalars(query.order_by(LogChunk.sequence).limit(most)):
        size += len(chunk.data)
        if found and size > most_bytes:
            break
        found.append(chunk)
    return found
