"""BEAM searches: begin, list, wait for the end, cancel; their rounds and candidates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import Query

from api.auth import Reader, Writer
from api.body import StrictRoute
from api.deps import IdempotencyKey, Parts, PartsDep, Reading, WaitQuery, Writing
from api.pages import PageDep, RowId, next_cursor
from api.routing import Router
from api.schemas import problems
from api.waits import search_key
from fleet import models, searches
from fleet.agents.protocol import CandidateOutcome
from fleet.db import Session, now
from fleet.lifecycle import SEARCH, SearchState
from fleet.resources import Candidate, Page, Round, Search
from fleet.searches import SearchRequest

router = Router(
    prefix="/v1/searches", tags=["searches"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


@router.post("", status_code=201, summary="Begin a BEAM search", responses=problems(409, 413, 415))
def submit_search(
    principal: Writer, session: Writing, request: SearchRequest, key: IdempotencyKey = None
) -> Search:
    """A kernel that is tuned already is answered at once (`source` is cache); the same search in flight is joined.
    The same Idempotency-Key with the same body gives the same search."""
    row = searches.submit(session, request, principal=principal, now=now(session), idempotency_key=key)
    return search_resource(session, row)


@router.get("", summary="List searches, newest first")
def list_searches(
    principal: Reader,
    session: Reading,
    page: PageDep,
    state: Annotated[SearchState | None, Query(description="only searches in this state")] = None,
) -> Page[Search]:
    """With what each has found so far."""
    rows = searches.page(session, state, page.after, page.limit, principal.tenant)
    return Page(items=_search_resources(session, rows), next=next_cursor(rows, page))


@router.get("/{search_id}", summary="Get a search, or wait for its end", responses=problems(404))
async def get_search(principal: Reader, parts: PartsDep, search_id: RowId, wait: WaitQuery = 0.0) -> Search:
    """With `wait`, answers when the search is final, else after so many seconds with the search as it then is."""
    look = partial(_read, parts, search_id, principal.tenant)
    return await parts.waits.look_until(search_key(search_id), wait, look, _is_final)


@router.post("/{search_id}/cancel", summary="Cancel a search", responses=problems(404, 409))
def cancel_search(principal: Writer, session: Writing, search_id: RowId) -> Search:
    """What it has measured stays readable."""
    return search_resource(session, searches.cancel(session, search_id, principal, now(session)))


@router.get(
    "/{search_id}/rounds", summary="List a search's rounds, the first one first", responses=problems(404)
)
def list_rounds(principal: Reader, session: Reading, search_id: RowId) -> Page[Round]:
    """All of them: `max_rounds` bounds them."""
    phase = searches.owned(session, search_id, principal.tenant).phase
    return Page(items=[_round(row, phase) for row in searches.rounds(session, search_id)])


@router.get(
    "/{search_id}/candidates",
    summary="List a search's candidates, the fastest first",
    responses=problems(404),
)
def list_candidates(principal: Reader, session: Reading, search_id: RowId, page: PageDep) -> Page[Candidate]:
    """Correct ones by time, then the others in the order in which they were proposed; those that are still to be
    measured have no outcome. The cursor counts candidates."""
    searches.owned(session, search_id, principal.tenant)
    found = [each for row in searches.rounds(session, search_id) for each in _candidates(row)]
    begin = page.after or 0
    items = sorted(found, key=_standing)[begin : begin + page.limit]
    end = begin + len(items)
    return Page(items=items, next=end if end < len(found) else None)


def search_resource(session: Session, row: models.Search) -> Search:
    """A search's row as the API shows it, with what its rounds have found."""
    (resource,) = _search_resources(session, [row])
    return resource


def _search_resources(session: Session, rows: Sequence[models.Search]) -> list[Search]:
    found, at = searches.found(session, rows), now(session)
    return [_search(row, found[row.id], at) for row in rows]


def _search(row: models.Search, found: searches.Found, at: float) -> Search:
    ended = row.finished_at or at
    return Search(
        **{name: getattr(row, name) for name in _COPIED},
        rounds=row.round,
        measured=found.measured,
        elapsed_s=max(0.0, ended - row.started_at) if row.started_at else 0.0,
        best_schedule=found.best_schedule,
        phase=row.phase if row.state == SearchState.RUNNING else "",
    )


_RANKS: dict[str, int] = {CandidateOutcome.OK: 0, CandidateOutcome.SLOW: 1}
_COMPUTED = {"rounds", "measured", "elapsed_s", "best_schedule", "phase"}
_COPIED = [name for name in Search.model_fields if name not in _COMPUTED]


def _round(row: models.Round, phase: str) -> Round:
    return Round(
        number=row.number,
        state=phase if row.finished_at is None else "done",
        generated=row.generated,
        illegal=row.illegal,
        duplicate=row.duplicate,
        candidates=len(row.candidates),
        outcomes=row.counts,
        best_s=row.best_s,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def _candidates(row: models.Round) -> list[Candidate]:
    """What was proposed in a round, each with what became of it."""
    results = {result["hash"]: result for result in row.results}
    return [
        Candidate.model_validate({**results.get(proposed["hash"], {}), **proposed, "round": row.number})
        for proposed in row.candidates
    ]


def _standing(candidate: Candidate) -> tuple[int, float]:
    rank = _RANKS.get(candidate.outcome or "", len(_RANKS))
    return rank, (candidate.time_s if rank < len(_RANKS) else None) or float("inf")


def _read(parts: Parts, search_id: int, tenant: str) -> Search:
    with parts.read() as session:
        return search_resource(session, searches.owned(session, search_id, tenant))


def _is_final(search: Search) -> bool:
    return search.state in SEARCH.final
