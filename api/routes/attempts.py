"""Attempts as jobs show them: each try at a job, and the log that goes on from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet import jobs, leases, models, nodes
from fleet.db import Session
from fleet.errors import NotFound
from fleet.resources import Attempt


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
        return {
            **attempt,
            "Log-Offset": str(self.offset),
            "Log-End": "true" if self.end else "false",
            "X-Content-Type-Options": "nosniff",
        }


def log_slice(
    session: Session,
    attempts: Sequence[models.Attempt],
    begin: int | str,
    offset: int,
    limit: int,
    final: bool,
) -> LogSlice:
    """The log of a job from an offset of one of its attempts (by id, first or last) on.

    An attempt that has a successor and no more bytes hands over to it. `final`: the job has ended.
    """
    if not attempts:
        return LogSlice(None, b"", 0, final)
    place = _place(attempts, begin)
    content = jobs.logs(session, attempts[place].id, offset, limit)
    if not content and place + 1 < len(attempts):
        place, offset = place + 1, 0
        content = jobs.logs(session, attempts[place].id, offset, limit)
    last = place + 1 == len(attempts)
    return LogSlice(
        attempt_id=attempts[place].id,
        content=content,
        offset=offset + len(content),
        end=final and last and len(content) < limit,
    )


def _place(attempts: Sequence[models.Attempt], begin: int | str) -> int:
    places: dict[int | str, int] = {attempt.id: place for place, attempt in enumerate(attempts)}
    places.update(first=0, last=len(attempts) - 1)
    if begin not in places:
        raise NotFound("attempt of this job", begin)
    return places[begin]


def attempt_resources(session: Session, attempts: Sequence[models.Attempt]) -> list[Attempt]:
    """Attempts as the API shows them, with the names of their nodes and devices."""
    names = nodes.names(session, [attempt.node_id for attempt in attempts])
    devices = nodes.device_names(session, [attempt.device_id for attempt in attempts])
    fences = leases.fences(session, [attempt.id for attempt in attempts])
    gpus = leases.gpu_names(session, fences.values())
    return [
        _attempt(
            each,
            node=names[each.node_id],
            device=devices[each.device_id],
            fence=fences[each.id],
            gpus=gpus.get(fences[each.id], []),
        )
        for each in attempts
    ]


def _attempt(attempt: models.Attempt, **named: object) -> Attempt:
    columns = {column: getattr(attempt, column) for column in Attempt.model_fields if column not in named}
    return Attempt.model_validate({**columns, **named})
