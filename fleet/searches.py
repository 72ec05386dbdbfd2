"""BEAM searches: submitting, reading and cancelling. fleet/advance.py decides their steps, fleet/rounds.py writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, StrictBool, StrictFloat, StrictInt
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from fleet import events, idempotency, jobs, kernels, nodes
from fleet.agents.protocol import CandidateOutcome, CandidateResult, Count, KernelRef, Wire, canonical_hash
from fleet.errors import NotFound
from fleet.firing import fire as fire_row
from fleet.lifecycle import JOB, SEARCH, NodeState, SearchEvent, SearchState
from fleet.models import Device, Job, KernelAlias, Node, Round, Search, TunedKernel
from fleet.nodes import Contact, contact
from fleet.principals import Principal


class SearchRequest(Wire):
    """What to search for, how wide and for how long. `arch`: only on devices whose architecture begins so."""

    kernel: KernelRef
    arch: str | None = Field(default=None, min_length=1, max_length=400)
    width: StrictInt = Field(default=4, ge=1, le=64, description="schedules that survive a round")
    budget_s: StrictFloat = Field(
        default=30.0, gt=0, le=86_400, description="seconds of searching, from its start"
    )
    threads: StrictInt = Field(default=1, ge=1, le=1024)
    per_round: StrictInt = Field(default=16, ge=1, le=512, description="candidates measured in a round")
    max_rounds: StrictInt = Field(default=32, ge=1, le=256)
    seed: Count = 0
    refresh: StrictBool = Field(
        default=False, description="search although a tuned kernel is known; that one is tried first"
    )


def fire(session: Session, search: Search, event: SearchEvent, now: float, **changes: Any) -> None:
    """Advance a search; StaleWrite when somebody wrote it since it was read."""
    fire_row(session, SEARCH, search, event, now, **changes)


# ------------------------------------------------------------------------------------------ submitting


def submit(
    session: Session,
    request: SearchRequest,
    *,
    principal: Principal,
    now: float,
    idempotency_key: str | None = None,
) -> Search:
    """Start a search, join the same one in flight, or answer from the cache (state done, source cache) at once.

    InvalidSpec for an architecture that no node has.
    """
    jobs.permit(principal)
    body = request.model_dump(mode="json", by_alias=True)
    earlier = idempotency.earlier(session, principal, "search", idempotency_key, body)
    if earlier is not None:
        return get(session, earlier)
    kernels.check(session, request.kernel, "kernel", principal.tenant)
    nodes.check_wanted(session, request.arch, None)
    search = _find_or_insert(session, request, principal, now)
    idempotency.remember(session, principal, "search", idempotency_key, body, search.id, now)
    events.audit(session, principal, "search.submit", f"search:{search.id}", {"source": search.source}, now)
    return search


def _find_or_insert(session: Session, request: SearchRequest, principal: Principal, now: float) -> Search:
    kernel_hash = kernels.hash_of(session, request.kernel)
    target_id = choose_target(session, request.arch, request.threads, now)
    tuned = None
    if kernel_hash and not request.refresh:
        tuned = kernels.lookup(session, kernel_hash, target_id, request.threads, principal.tenant)
    if tuned is not None:
        search = _insert(session, request, principal, now, kernel_hash, target_id, answered=True)
        hit(session, search, tuned, now)
        return search
    same = _in_flight(session, request, principal.tenant, kernel_hash, target_id)
    return same or _insert(session, request, principal, now, kernel_hash, target_id)


def _in_flight(
    session: Session, request: SearchRequest, tenant: str, kernel_hash: str | None, target_id: str | None
) -> Search | None:
    """The tenant's live search that answers this request, the oldest one first, whatever it has learnt since it was submitted.

    Two names of a kernel that were both unknown when they were submitted make two searches. The one that is expanded
    later goes on; it ends as soon as the other has found a tuned kernel before.
    """
    limits = request.model_dump(exclude={"kernel", "arch"})
    query = select(Search).where(Search.state.in_([SearchState.QUEUED, SearchState.RUNNING]))
    query = query.where(Search.tenant == tenant)  # what it finds is its finder's alone at first
    query = query.where(_means(request, kernel_hash)).filter_by(**limits).order_by(Search.id)
    return next((row for row in session.scalars(query) if _goes_where(row, request, target_id)), None)


def _means(request: SearchRequest, kernel_hash: str | None) -> ColumnElement[bool]:
    """The row is of this kernel: by the same name, or by any name of it that the fleet knows now."""
    same_name = Search.ref_key == request.kernel.key()
    if kernel_hash is None:
        return same_name
    names = select(KernelAlias.ref_key).where(KernelAlias.kernel_hash == kernel_hash)
    return or_(same_name, Search.kernel_hash == kernel_hash, Search.ref_key.in_(names))


def _goes_where(row: Search, request: SearchRequest, target_id: str | None) -> bool:
    """The same was asked of it, or it is on the target that this request would get. A queued one may still go
    to any target of its own architecture."""
    if row.arch == request.arch:
        return True
    stays = row.state == SearchState.RUNNING or (row.arch or "").startswith(request.arch or "")
    return target_id is not None and row.target_id == target_id and stays


def choose_target(session: Session, arch: str | None, threads: int, now: float) -> str | None:
    """The target to search on: the one most nodes have that could run it now, else the one most nodes have."""
    query = select(Device, Node).join(Node, Node.id == Device.node_id)
    query = query.where(Node.state != NodeState.RETIRED, Node.cores >= threads, Device.present)
    query = query.where(Device.kind == "cpu", Device.problem == "", Device.target_id.is_not(None))
    votes: dict[str, tuple[int, int]] = {}
    for device, node in session.execute(query):
        if device.target_id is not None and device.arch.startswith(arch or ""):
            ready, known = votes.get(device.target_id, (0, 0))
            able = node.state == NodeState.READY and contact(node, now) is Contact.ONLINE
            votes[device.target_id] = (ready + able, known + 1)
    return max(sorted(votes), key=lambda target: votes[target], default=None)


def _join_key(request: SearchRequest, tenant: str, answered: bool) -> str:
    """What no two live searches may share: who asked, all that was asked, and nothing that is learnt later. One that is answered
    at once is live only until then, and may be so beside one that is still searching."""
    asked = request.model_dump(mode="json", by_alias=True)
    return canonical_hash([asked, tenant, "cache" if answered else "search"])


def _insert(
    session: Session,
    request: SearchRequest,
    principal: Principal,
    now: float,
    kernel_hash: str | None,
    target_id: str | None,
    answered: bool = False,
) -> Search:
    kernel = kernels.with_document(session, request.kernel)
    search = Search(
        tenant=principal.tenant,
        kernel=kernel.model_dump(mode="json", by_alias=True, exclude_none=True),
        ref_key=request.kernel.key(),
        kernel_hash=kernel_hash,
        join_key=_join_key(request, principal.tenant, answered),
        target_id=target_id,
        state=SEARCH.initial,
        state_at=now,
        created_by=str(principal),
        created_at=now,
        **request.model_dump(exclude={"kernel"}),
    )
    session.add(search)
    session.flush()
    events.append(session, "search.queued", f"search:{search.id}", {"kernel": search.ref_key}, now)
    return search


def hit(session: Session, search: Search, tuned: TunedKernel, now: float) -> None:
    """Answer a search with a tuned kernel that is known already."""
    fire(
        session,
        search,
        SearchEvent.HIT,
        now,
        source="cache",
        kernel_hash=tuned.kernel_hash,
        tuned_kernel_id=tuned.id,
        best_s=tuned.time_s,
        best_hash=tuned.schedule_hash,
        flops=tuned.flops,
        bytes=tuned.bytes,
        started_at=search.started_at or now,
        finished_at=now,
        reason="",
    )


# --------------------------------------------------------------------------------------------- reading


def get(session: Session, search_id: int) -> Search:
    """The search, or NotFound."""
    search = session.get(Search, search_id)
    if search is None:
        raise NotFound("search", search_id)
    return search


def owned(session: Session, search_id: int, tenant: str) -> Search:
    """The tenant's search, or NotFound: somebody else's is none."""
    search = session.get(Search, search_id)
    if search is None or search.tenant != tenant:
        raise NotFound("search", search_id)
    return search


def page(
    session: Session,
    state: str | None = None,
    after: int | None = None,
    limit: int = 50,
    tenant: str | None = None,
) -> Sequence[Search]:
    """Searches (of one tenant), newest first, with ids below the cursor `after`."""
    query = select(Search).order_by(Search.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(Search.tenant == tenant)
    if state is not None:
        query = query.where(Search.state == state)
    return session.scalars(query if after is None else query.where(Search.id < after)).all()


def rounds(session: Session, search_id: int) -> Sequence[Round]:
    """A search's rounds, first to last."""
    get(session, search_id)
    return session.scalars(select(Round).where(Round.search_id == search_id).order_by(Round.number)).all()


def candidates(session: Session, search_id: int, limit: int = 50) -> list[CandidateResult]:
    """What became of a search's candidates: correct ones first by time, then the others."""
    results = [
        CandidateResult.model_validate(each) for row in rounds(session, search_id) for each in row.results
    ]
    return sorted(results, key=_standing)[:limit]


def _standing(result: CandidateResult) -> tuple[int, float]:
    order = [CandidateOutcome.OK, CandidateOutcome.SLOW]
    rank = order.index(result.outcome) if result.outcome in order else len(order)
    return rank, result.time_s if result.time_s is not None else float("inf")


@dataclass(frozen=True)
class Found:
    """What a search has found so far: candidates with an outcome, and the schedule of the best one."""

    measured: int = 0
    best_schedule: list[list[Any]] | None = None


def found(session: Session, rows: Sequence[Search]) -> Mapping[int, Found]:
    """What each of these searches has found, by its id. Of the rounds only what is needed is read: they are large."""
    measured = dict.fromkeys((row.id for row in rows), 0)
    counts = select(Round.search_id, Round.counts).where(Round.search_id.in_(measured))
    for search_id, of_round in session.execute(counts):
        measured[search_id] += sum(
            n for outcome, n in of_round.items() if outcome != CandidateOutcome.SKIPPED
        )
    tuned = kernels.schedules(session, [row.tuned_kernel_id for row in rows if row.tuned_kernel_id])
    standing = _best_standing(session, [row for row in rows if not row.tuned_kernel_id and row.best_hash])
    return {
        row.id: Found(measured[row.id], tuned.get(row.tuned_kernel_id or 0, standing.get(row.id)))
        for row in rows
    }


def _best_standing(session: Session, rows: Sequence[Search]) -> Mapping[int, list[list[Any]]]:
    """The schedules of the best candidates of searches without a tuned kernel."""
    wanted = {row.id: row.best_hash for row in rows}
    query = select(Round.search_id, Round.top).where(Round.search_id.in_(wanted))
    return {
        search_id: result["schedule"]
        for search_id, top in session.execute(query)
        for result in top
        if result["hash"] == wanted[search_id]
    }


# ------------------------------------------------------------------------------------------ cancelling


def cancel(session: Session, search_id: int, principal: Principal, now: float) -> Search:
    """Cancel a search and its jobs; what it measured so far stays readable."""
    jobs.permit(principal)
    search = owned(session, search_id, principal.tenant)
    if search.state != SearchState.CANCELLED:
        fire(session, search, SearchEvent.CANCEL, now, finished_at=now, reason="")
        stop_work(session, search, now)
        events.audit(session, principal, "search.cancel", f"search:{search_id}", {}, now)
    return search


def stop_work(session: Session, search: Search, now: float) -> None:
    """Cancel the jobs of a search that has ended, and close the round that it was in."""
    going_on = (Round.search_id == search.id) & Round.finished_at.is_(None)
    session.execute(update(Round).where(going_on).values(finished_at=now))
    stoppable = [state for state, exits in JOB.edges.items() if any(exit == "cancel" for exit in exits)]
    query = select(Job).where(Job.search_id == search.id, Job.state.in_(stoppable))
    for job in session.scalars(query).all():
        jobs.stop(session, job, now)
