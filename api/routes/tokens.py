"""Bearer tokens, join tokens, and who one's own token says one is."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import Field, StrictFloat

from api.auth import Holder, Operator
from api.body import StrictRoute
from api.deps import Reading, Writing
from api.pages import PageDep, RowId, next_cursor
from api.schemas import Request, problems
from fleet import tenants
from fleet.agents.protocol import Name
from fleet.db import now
from fleet.resources import JoinToken, MintedToken, Page, Token, WhoAmI

router = APIRouter(
    prefix="/v1", tags=["tokens"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
Lifetime = Annotated[StrictFloat, Field(gt=0, le=10 * 365 * 86400, description="seconds until it expires")]
JOIN_LIFETIME_S = 3600.0


class TokenRequest(Request):
    """A token to mint, of at most one's own role."""

    name: Name
    role: Literal["admin", "user", "viewer"] = "user"
    kind: Literal["user", "service"] = "user"
    ttl_s: Lifetime | None = None


class JoinTokenRequest(Request):
    """A join token to mint."""

    ttl_s: Annotated[StrictFloat, Field(gt=0, le=7 * 86400, description="seconds until it expires")] = (
        JOIN_LIFETIME_S
    )
    pool: Name | None = Field(default=None, description="the pool that its node will be in")


@router.get("/whoami", summary="Who the bearer token says is asking")
def whoami(principal: Holder) -> WhoAmI:
    """Any token but a join token may ask."""
    return WhoAmI.model_validate(principal)


@router.get("/tokens", summary="List bearer tokens, without their secrets")
def list_tokens(principal: Operator, session: Reading, page: PageDep) -> Page[Token]:
    """In order of id; node and join tokens too."""
    rows = tenants.page(session, page.after, page.limit)
    return Page(items=[Token.model_validate(row) for row in rows], next=next_cursor(rows, page))


@router.post("/tokens", status_code=201, summary="Mint a bearer token", responses=problems(413, 415))
def mint_token(
    principal: Operator, session: Writing, request: TokenRequest, response: Response
) -> MintedToken:
    """The secret is in this answer and nowhere else: only its digest is kept."""
    token, secret = tenants.mint(
        session,
        name=request.name,
        role=request.role,
        kind=request.kind,
        now=now(session),
        ttl_s=request.ttl_s,
        by=principal,
    )
    response.headers["Cache-Control"] = "no-store"
    return MintedToken(**Token.model_validate(token).model_dump(), secret=secret)


@router.delete("/tokens/{token_id}", summary="Revoke a bearer token", responses=problems(404))
def revoke_token(principal: Operator, session: Writing, token_id: RowId) -> Token:
    """It is refused from the next request on. Revoking twice changes nothing."""
    return Token.model_validate(tenants.revoke(session, token_id, principal, now(session)))


@router.post("/join-tokens", status_code=201, summary="Mint a join token", responses=problems(413, 415))
def mint_join_token(
    principal: Operator, session: Writing, response: Response, request: JoinTokenRequest | None = None
) -> JoinToken:
    """With its secret one node enrolls, once."""
    asked = request or JoinTokenRequest()
    ttl_s = asked.ttl_s
    moment = now(session)
    secret = tenants.mint_join(session, now=moment, ttl_s=ttl_s, by=principal, pool=asked.pool)
    response.headers["Cache-Control"] = "no-store"
    return JoinToken.model_validate({"secret": secret, "expires_at": moment + ttl_s})
