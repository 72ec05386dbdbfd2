"""Bearer tokens, join tokens, and who one's own token says one is."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Response
from pydantic import Field, StrictFloat

from api.auth import Anybody, JoinAdmin, TokenAdmin
from api.body import StrictRoute
from api.deps import IdempotencyKey, Reading, Writing
from api.pages import PageDep, RowId, next_cursor
from api.routing import Router
from api.schemas import Request, problems
from fleet import idempotency, tenants
from fleet.agents.protocol import Name
from fleet.db import Session, now
from fleet.errors import AlreadyExists
from fleet.permissions import Permission
from fleet.principals import Principal
from fleet.resources import JoinToken, MintedToken, Page, Token, WhoAmI

router = Router(
    prefix="/v1", tags=["tokens"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
Lifetime = Annotated[StrictFloat, Field(gt=0, le=10 * 365 * 86400, description="seconds until it expires")]
JOIN_LIFETIME_S = 3600.0


class TokenRequest(Request):
    """A token to mint, of at most one's own role."""

    name: Name
    role: tenants.Role = "user"
    kind: Literal["user", "service"] = "user"
    ttl_s: Lifetime | None = None
    tenant: Annotated[Name | None, Field(description="whose it is; one's own unless given")] = None
    scopes: Annotated[
        list[Permission] | None,
        Field(max_length=len(Permission), description="the only permissions of the role that it gives"),
    ] = None


class JoinPlace(Request):
    """A rack, made if there is none of that name."""

    site: Name
    rack: Name


class JoinTokenRequest(Request):
    """A join token to mint."""

    ttl_s: Annotated[StrictFloat, Field(gt=0, le=7 * 86400, description="seconds until it expires")] = (
        JOIN_LIFETIME_S
    )
    pool: Name | None = Field(default=None, description="the pool that its node will be in")
    place: JoinPlace | None = Field(default=None, description="where its node stands")


@router.get("/whoami", summary="Who the bearer token says is asking")
def whoami(principal: Anybody) -> WhoAmI:
    """Any token but a join token may ask."""
    return WhoAmI.model_validate(principal)


@router.get("/tokens", summary="List bearer tokens, without their secrets")
def list_tokens(principal: TokenAdmin, session: Reading, page: PageDep) -> Page[Token]:
    """In order of id; node and join tokens too."""
    rows = tenants.page(session, page.after, page.limit, principal.tenant)
    return Page(items=[Token.model_validate(row) for row in rows], next=next_cursor(rows, page))


@router.post("/tokens", status_code=201, summary="Mint a bearer token", responses=problems(409, 413, 415))
def mint_token(
    principal: TokenAdmin,
    session: Writing,
    request: TokenRequest,
    response: Response,
    key: IdempotencyKey = None,
) -> MintedToken:
    """The secret is in this answer and nowhere else: only its digest is kept. The same Idempotency-Key makes no
    second token, and cannot show the first one's secret again: 409."""
    body = request.model_dump(mode="json")
    _refuse_again(session, principal, "token", key, body)
    moment = now(session)
    token, secret = tenants.mint(
        session,
        name=request.name,
        role=request.role,
        kind=request.kind,
        now=moment,
        ttl_s=request.ttl_s,
        by=principal,
        tenant=request.tenant,
        scopes=request.scopes,
    )
    idempotency.remember(session, principal, "token", key, body, token.id, moment)
    response.headers["Cache-Control"] = "no-store"
    return MintedToken(**Token.model_validate(token).model_dump(), secret=secret)


@router.delete("/tokens/{token_id}", summary="Revoke a bearer token", responses=problems(404))
def revoke_token(principal: TokenAdmin, session: Writing, token_id: RowId) -> Token:
    """It is refused from the next request on. Revoking twice changes nothing."""
    return Token.model_validate(tenants.revoke(session, token_id, principal, now(session)))


@router.post("/join-tokens", status_code=201, summary="Mint a join token", responses=problems(409, 413, 415))
def mint_join_token(
    principal: JoinAdmin,
    session: Writing,
    response: Response,
    request: JoinTokenRequest | None = None,
    key: IdempotencyKey = None,
) -> JoinToken:
    """With its secret one node enrolls, once. An Idempotency-Key that was used makes no second one: 409."""
    asked = request or JoinTokenRequest()
    body = asked.model_dump(mode="json")
    _refuse_again(session, principal, "join-token", key, body)
    ttl_s = asked.ttl_s
    moment = now(session)
    place = None if asked.place is None else (asked.place.site, asked.place.rack)
    secret = tenants.mint_join(session, now=moment, ttl_s=ttl_s, by=principal, pool=asked.pool, place=place)
    made = tenants.join_token(session, secret)
    assert made is not None
    idempotency.remember(session, principal, "join-token", key, body, made.id, moment)
    response.headers["Cache-Control"] = "no-store"
    return JoinToken.model_validate({"secret": secret, "expires_at": made.expires_at})


def _refuse_again(
    session: Session, principal: Principal, noun: str, key: str | None, body: dict[str, object]
) -> None:
    earlier = idempotency.earlier(session, principal, noun, key, body)
    if earlier is not None:
        raise AlreadyExists(
            noun, earlier, "its secret was shown once: revoke it and mint another with a new key"
        )
