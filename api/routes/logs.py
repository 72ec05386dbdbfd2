"""Logs of jobs: as bytes, as a stream that follows, and as chunks that say which stream they are of.

A job's log goes on from one of its attempts to the next.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from fastapi import Query, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, StreamingResponse

from api.auth import Reader, Secret
from api.body import StrictRoute
from api.deps import Parts, PartsDep, WaitQuery
from api.pages import LARGEST_ID, RowId
from api.routing import Router
from api.schemas import problems
from api.waits import job_key
from fleet import jobs, logs, models
from fleet.db import Session, now
from fleet.errors import NotFound, NotPermitted
from fleet.lifecycle import JOB
from fleet.resources import LogPiece, LogPieces
from fleet.tenants import authenticate

router = Router(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
FOLLOW_S = 15.0  # how long a follower is parked between two looks
PIECE_BYTES = 1 << 18
PIECES = 500
Stream = Literal["stdout", "stderr", "system"]
Begin = Annotated[
    Annotated[int, Field(ge=1, le=LARGEST_ID)] | Literal["first", "last"],
    Query(description="where to begin: an attempt's id, first or last"),
]
OneStream = Annotated[Stream | None, Query(description="only this stream; else all, as they arrived")]
HEADERS = {"X-Content-Type-Options": "nosniff"}


class FollowedText(StreamingResponse):
    """Text that grows until its job has ended."""

    media_type = "text/plain"


@dataclass(frozen=True)
class LogSlice:
    """Bytes of one attempt's log that end at `offset`; `end` when nothing more will come for the job."""

    attempt_id: int | None
    content: bytes
    offset: int
    end: bool

    def is_news(self) -> bool:
        """True when there is something to tell: bytes, or that there will be none."""
        return bool(self.content) or self.end

    def headers(self) -> dict[str, str]:
        """Where to read on."""
        attempt = {} if self.attempt_id is None else {"Log-Attempt": str(self.attempt_id)}
        end = "true" if self.end else "false"
        return {**attempt, "Log-Offset": str(self.offset), "Log-End": end, **HEADERS}


@dataclass(frozen=True)
class Asked:
    """Whose log: a job, and its tenant; and which of its streams, all without one."""

    job_id: int
    tenant: str
    stream: Stream | None = None


@router.get(
    "/{job_id}/logs",
    summary="Read a job's log, or wait for more of it",
    response_class=PlainTextResponse,
    responses=problems(404),
)
async def job_logs(
    principal: Reader,
    parts: PartsDep,
    job_id: RowId,
    offset: Annotated[int, Query(ge=0, le=LARGEST_ID, description="bytes of the attempt's log to skip")] = 0,
    attempt: Begin = "last",
    limit: Annotated[int, Query(ge=1, le=1 << 20, description="how many bytes at most")] = PIECE_BYTES,
    wait: WaitQuery = 0.0,
    stream: OneStream = None,
) -> Response:
    """UTF-8 text. The headers `Log-Attempt` and `Log-Offset` say where to read on, and `Log-End` is true when the
    job is final and all of its log was read. At the end of a retried attempt, its successor's log follows."""
    look = partial(_slice, parts, Asked(job_id, principal.tenant, stream), attempt, offset, limit)
    found = await parts.waits.look_until(job_key(job_id), wait, look, LogSlice.is_news)
    return PlainTextResponse(found.content, headers=found.headers())


@router.get(
    "/{job_id}/logs/stream",
    summary="Follow a job's log to its end",
    response_class=FollowedText,
    responses=problems(404),
)
async def follow_logs(
    principal: Reader,
    secret: Secret,
    parts: PartsDep,
    job_id: RowId,
    attempt: Begin = "first",
    stream: OneStream = None,
) -> FollowedText:
    """UTF-8 text, as it comes; the answer ends when the job has, and all of its log was sent, or when the token does."""
    asked = Asked(job_id, principal.tenant, stream)
    await run_in_threadpool(_slice, parts, asked, attempt, 0, 1)  # refused before anything is sent
    return FollowedText(
        _follow(parts, secret, asked, attempt), headers={**HEADERS, "Cache-Control": "no-store"}
    )


async def _follow(parts: Parts, secret: str, asked: Asked, attempt: int | str) -> AsyncIterator[bytes]:
    begin: int | str = attempt
    offset = 0
    while not parts.waits.closed and await run_in_threadpool(_good, parts, secret):
        look = partial(_slice, parts, asked, begin, offset, PIECE_BYTES)
        found = await parts.waits.look_until(job_key(asked.job_id), FOLLOW_S, look, LogSlice.is_news)
        if found.content:
            yield found.content
        if found.end:
            return
        offset = found.offset
        begin = begin if found.attempt_id is None else found.attempt_id


def _good(parts: Parts, secret: str) -> bool:
    """Whether the token still is one."""
    with parts.read() as session:
        try:
            authenticate(session, secret, now(session))
        except NotPermitted:
            return False
    return True


@router.get(
    "/{job_id}/log-chunks", summary="Read a job's log in chunks, or wait for more", responses=problems(404)
)
async def log_chunks(
    principal: Reader,
    parts: PartsDep,
    job_id: RowId,
    attempt: Begin = "first",
    after: Annotated[
        int, Query(ge=-1, le=LARGEST_ID, description="the sequence number of the chunk read last; -1: none")
    ] = -1,
    wait: WaitQuery = 0.0,
) -> LogPieces:
    """In order, each of one stream: what a program printed is put together from them to the byte."""
    look = partial(_pieces, parts, Asked(job_id, principal.tenant), attempt, after)
    return await parts.waits.look_until(
        job_key(job_id), wait, look, lambda found: bool(found.items) or found.end
    )


def _slice(parts: Parts, asked: Asked, begin: int | str, offset: int, limit: int) -> LogSlice:
    with parts.read() as session:
        job = jobs.owned(session, asked.job_id, asked.tenant)
        attempts = jobs.attempts(session, job.id)
        return log_slice(session, attempts, begin, offset, limit, job.state in JOB.final, asked.stream)


def log_slice(
    session: Session,
    attempts: Sequence[models.Attempt],
    begin: int | str,
    offset: int,
    limit: int,
    final: bool,
    stream: Stream | None = None,
) -> LogSlice:
    """The log of a job from an offset of one of its attempts (by id, first or last) on.

    An attempt that has a successor and no more bytes hands over to it. `final`: the job has ended.
    """
    if not attempts:
        return LogSlice(None, b"", 0, final)
    place = _place(attempts, begin)
    content = logs.read(session, attempts[place].id, offset, limit, stream)
    if not content and place + 1 < len(attempts):
        place, offset = place + 1, 0
        content = logs.read(session, attempts[place].id, offset, limit, stream)
    last = place + 1 == len(attempts)
    return LogSlice(
        attempt_id=attempts[place].id,
        content=content,
        offset=offset + len(content),
        end=final and last and len(content) < limit,
    )


def _pieces(parts: Parts, asked: Asked, begin: int | str, after: int) -> LogPieces:
    with parts.read() as session:
        job = jobs.owned(session, asked.job_id, asked.tenant)
        attempts = jobs.attempts(session, job.id)
        final = job.state in JOB.final
        if not attempts:
            return LogPieces(items=[], end=final)
        place = _place(attempts, begin)
        found = logs.chunks(session, attempts[place].id, after + 1, PIECE_BYTES, PIECES)
        if not found and place + 1 < len(attempts):
            place, after = place + 1, -1
            found = logs.chunks(session, attempts[place].id, 0, PIECE_BYTES, PIECES)
        last = place + 1 == len(attempts)
        return LogPieces(
            items=[_piece(chunk) for chunk in found],
            attempt=attempts[place].id,
            after=found[-1].sequence if found else after,
            end=final and last and not found,
        )


def _piece(chunk: models.LogChunk) -> LogPiece:
    return LogPiece(
        attempt_id=chunk.attempt_id,
        sequence=chunk.sequence,
        stream=chunk.stream,
        offset=chunk.stream_offset,
        data=base64.b64encode(chunk.data).decode(),
    )


def _place(attempts: Sequence[models.Attempt], begin: int | str) -> int:
    places: dict[int | str, int] = {attempt.id: place for place, attempt in enumerate(attempts)}
    places.update(first=0, last=len(attempts) - 1)
    if begin not in places:
        raise NotFound("attempt of this job", begin)
    return places[begin]
