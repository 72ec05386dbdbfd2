"""What agents ask: enrolment, the sync that is a long poll, and the upload of logs."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated, Any

from fastapi import Query, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from api.auth import JoinSecret, NodeIdentity
from api.body import StrictRoute
from api.deps import Parts, PartsDep, RawBody, Writing
from api.pages import LARGEST_ID, RowId
from api.routing import Router
from api.schemas import binary, problems
from api.signed import Signed
from api.waits import job_key, node_key
from fleet import commands, dialects, heartbeats, identities, leases, logs, nodes, secrets_kept, sync
from fleet.agents.protocol import (
    Desired,
    EnrollRequest,
    EnrollResponse,
    HandedSecrets,
    LogAck,
    Observed,
    RotateRequest,
    RotateResponse,
)
from fleet.db import Session, now
from fleet.errors import NotPermitted
from fleet.principals import Principal

router = Router(
    prefix="/v1/agents", tags=["agents"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


@router.post(
    "/enroll",
    status_code=201,
    summary="Join the fleet with a join token as the bearer",
    responses=problems(409, 413, 415),
)
def enroll(
    secret: JoinSecret, session: Writing, request: EnrollRequest, response: Response
) -> EnrollResponse:
    """Spends the join token; from then on the node is who signs with the key that it brought."""
    response.headers["Cache-Control"] = "no-store"
    return nodes.enroll(session, secret, request, now(session))


@router.post("/keys", summary="Bring the node's next key", responses=problems(409, 413, 415))
def rotate_key(
    principal: NodeIdentity, signed: Signed, session: Writing, request: RotateRequest
) -> RotateResponse:
    """Signed with the present key, which is good for another hour; the new one at once. Sent again, it changes
    nothing."""
    assert signed is not None, "a node is known by its signature"
    key = identities.rotate(
        session, principal.id, signed.key, request.public_key, request.proof, now(session)
    )
    return RotateResponse(key=key.id)


@router.post(
    "/sync",
    summary="Report all that is observed; get all that is desired",
    response_model=Desired,
    responses=problems(409, 413, 415),
)
async def sync_node(principal: NodeIdentity, signed: Signed, parts: PartsDep, observed: Observed) -> Any:
    """Records at once; then parks, for at most `wait_s`, until there is a newer generation than the one that
    the agent has applied. An older (boot id, sequence) is refused."""
    assert signed is not None, "a node is known by its signature"
    told = await run_in_threadpool(_exchange, parts, principal, observed, signed.at)
    if told is not None:
        return told
    look = partial(_generation, parts, principal.id)
    await parts.waits.look_until(
        node_key(principal.id), observed.wait_s, look, lambda newest: newest > observed.generation
    )
    return await run_in_threadpool(_desired, parts, principal.id)


@router.put(
    "/attempts/{attempt_id}/logs",
    summary="Append to an attempt's log",
    responses=problems(404, 409, 413),
    openapi_extra={"requestBody": binary("application/octet-stream")},
)
def append_log(
    principal: NodeIdentity,
    attempt_id: RowId,
    offset: Annotated[int, Query(ge=0, le=LARGEST_ID, description="where in the log the bytes begin")],
    fence: Annotated[
        int, Query(ge=0, le=LARGEST_ID, description="of the attempt's lease; an older one is refused")
    ],
    content: RawBody,
    parts: PartsDep,
    runs: Annotated[
        str | None,
        Query(max_length=8192, pattern=logs.RUNS, description="which stream the bytes came by: o120.e33"),
    ] = None,
) -> LogAck:
    """Answers how much of the log is there: the agent continues there, whatever it sent twice or too early."""
    with parts.write() as session:
        known = logs.append(session, principal.id, attempt_id, fence, offset, content, runs)
        job_id = leases.get(session, attempt_id).job_id
    parts.waits.hint(job_key(job_id))  # a log makes no event
    return LogAck(offset=known)


@router.get(
    "/attempts/{attempt_id}/secrets",
    summary="Get the secrets of an attempt that is to start",
    responses=problems(404, 409),
)
def attempt_secrets(
    principal: NodeIdentity,
    attempt_id: RowId,
    fence: Annotated[int, Query(ge=0, le=LARGEST_ID, description="of the attempt's lease")],
    session: Writing,
    parts: PartsDep,
    response: Response,
) -> HandedSecrets:
    """Only to the node that holds the attempt, while it does; that it asked is an event."""
    response.headers["Cache-Control"] = "no-store"
    keys = secrets_kept.keys(parts.settings.fleet.secret_keys_file, os.environ)
    handed = commands.secrets_for(session, principal.id, attempt_id, fence, keys, now(session))
    return HandedSecrets(secrets=handed)


def _exchange(
    parts: Parts, asking: Principal, observed: Observed, signed_at: float
) -> Desired | JSONResponse | None:
    """Record a report; returns the answer, or None when it waits for something newer to be said."""
    with parts.write() as session:
        moment = now(session)
        resting = heartbeats.take(session, asking.id, observed, moment)
        contested, decide = (
            (False, False) if resting else _record(session, asking.id, observed, signed_at, moment)
        )
    if decide:
        parts.controllers.changed()
    if contested:
        raise NotPermitted(f"node {asking.name} is used by two live agents: an operator has to decide")
    if resting is None:
        return None if observed.wait_s > 0 else _desired(parts, asking.id)
    waits = observed.wait_s > 0 and resting.generation <= observed.generation
    return None if waits else resting.desired(moment, parts.settings.fleet.timings)


def _record(
    session: Session, node_id: int, observed: Observed, signed_at: float, moment: float
) -> tuple[bool, bool]:
    """Record a report, unless it is one of two live agents with the node's identity: whether it is, and whether there is
    something to decide now."""
    node = nodes.get(session, node_id)
    contested = identities.contest(session, node, observed.boot_id, signed_at, moment)
    return contested, contested or sync.record(session, node_id, observed, moment)


def _generation(parts: Parts, node_id: int) -> int:
    with parts.read() as session:
        return sync.generation(session, node_id)


def _desired(parts: Parts, node_id: int) -> Desired | JSONResponse:
    """In the dialect of the node's agent: an older one refuses what it does not know."""
    with parts.read() as session:
        desired = sync.desired(session, node_id, now(session), parts.settings.fleet.timings)
        older = dialects.answer(desired, nodes.get(session, node_id).protocol)
    return desired if older is None else JSONResponse(older)
