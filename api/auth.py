"""Bearer token or a node's signature → principal, and what each route asks for.

Every route declares who may use it by one of the annotations below; the router refuses to register one that declares
nothing and is not on the list of public ones (`api.routing`).
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from api.deps import Parts, parts
from api.errors import TooOften, Unauthenticated
from api.gates import Gate, calls_of
from api.signed import Signed, check_whole, signature, signing_node
from fleet.db import now
from fleet.errors import DatabaseUnavailable, NotPermitted
from fleet.permissions import Permission, require
from fleet.tenants import NO_JOIN_TOKEN, Principal, identify, join_token, principal_of

_renewals: set[asyncio.Task[None]] = set()
_bearer = HTTPBearer(
    auto_error=False, description="a token of this server: tfu_… or tfs_…; nodes sign instead"
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def bearer_secret(credentials: Credentials) -> str:
    """The secret of the Authorization header. Raises Unauthenticated without one."""
    return _secret(credentials)


def _secret(credentials: HTTPAuthorizationCredentials | None) -> str:
    if credentials is None:
        raise Unauthenticated("send the token in the header Authorization: Bearer TOKEN")
    return credentials.credentials


Secret = Annotated[str, Depends(bearer_secret)]


class Allow(Gate):
    """A dependency: the principal behind the request's token, when it has the permission.

    It uses a session of its own, over before the endpoint begins: a request that waits, or whose body takes long
    to arrive, holds none.
    """

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def admit(self, request: Request) -> None:
        """Raises Unauthenticated (401), TooOften (429) and NotPermitted (403)."""
        held, signed = await parts(request), await signature(request.headers.get("Authorization"))
        if signed is not None:
            principal = await signing_node(request, held, signed)
        else:
            principal = await self._holder(held, _secret(await _bearer(request)))
        wait_s = held.rates.take(f"{principal.kind}:{principal.id}")
        if wait_s > 0:
            raise TooOften(wait_s)
        require(principal, self.permission)
        if signed is not None:  # last: it reads the body, and spends the nonce
            await check_whole(request, held, signed)
        request.state.principal = principal

    async def still(self, request: Request) -> None:
        """Whoever waited for the answer may have lost the token meanwhile. Raises Unauthenticated (401)."""
        if await signature(request.headers.get("Authorization")) is None:
            await run_in_threadpool(_looked_up, await parts(request), _secret(await _bearer(request)))

    async def __call__(self, request: Request, signed: Signed, credentials: Credentials) -> Principal:
        """Whom `admit` has let in; the other parameters are for the document of the API."""
        principal = request.state.principal
        assert isinstance(principal, Principal)
        return principal

    async def _holder(self, parts: Parts, secret: str) -> Principal:
        """Who holds the token; a thread looks it up, but for a scrape's token that was looked up just now."""
        known = parts.scrapers.get(secret) if self.permission is Permission.METRICS else None
        if known is None:
            return await run_in_threadpool(_looked_up, parts, secret)
        if parts.scrapers.renew(secret):
            renewal = asyncio.create_task(_renew(parts, secret))
            _renewals.add(renewal)  # a task that nobody holds may be collected
            renewal.add_done_callback(_renewals.discard)
        return known


async def _renew(parts: Parts, secret: str) -> None:
    """Look a scrape's token up anew, so that the next scrape does not wait for it."""
    try:
        await run_in_threadpool(_looked_up, parts, secret)
    except (Unauthenticated, DatabaseUnavailable):
        parts.scrapers.forget(secret)  # the next one is told


def _looked_up(parts: Parts, secret: str) -> Principal:
    began = parts.scrapers.began()
    with parts.read() as session:
        at = now(session)
        try:
            token = identify(session, secret, at)
        except NotPermitted as error:
            raise Unauthenticated(error.reason) from error
    parts.uses.note(token, at)
    found = principal_of(token)
    parts.scrapers.keep(secret, found, began)
    return found


class Joining(Gate):
    """A dependency: a join token, as the bearer secret. Whether it can still be spent is for whoever spends it."""

    async def admit(self, request: Request) -> None:
        """Raises Unauthenticated (401) without one, and NotPermitted (403) for what never was one."""
        held, secret = await parts(request), _secret(await _bearer(request))
        await run_in_threadpool(_join_token, held, secret)

    async def __call__(self, secret: Secret) -> str:
        """The token."""
        return secret


def _join_token(parts: Parts, secret: str) -> None:
    with parts.read() as session:
        if join_token(session, secret) is None:
            raise NotPermitted(NO_JOIN_TOKEN)


JoinSecret = Annotated[str, Depends(Joining())]
Anybody = Annotated[Principal, Depends(Allow(Permission.WHOAMI))]
Reader = Annotated[Principal, Depends(Allow(Permission.READ))]
Scraper = Annotated[Principal, Depends(Allow(Permission.METRICS))]
Writer = Annotated[Principal, Depends(Allow(Permission.WORK))]
Operator = Annotated[Principal, Depends(Allow(Permission.OPERATE))]
Truster = Annotated[Principal, Depends(Allow(Permission.TRUST))]
TokenAdmin = Annotated[Principal, Depends(Allow(Permission.TOKENS))]
JoinAdmin = Annotated[Principal, Depends(Allow(Permission.JOIN))]
PeopleAdmin = Annotated[Principal, Depends(Allow(Permission.PEOPLE))]
Collecting = Annotated[Principal, Depends(Allow(Permission.COLLECT))]
WebhookAdmin = Annotated[Principal, Depends(Allow(Permission.WEBHOOKS))]
QuotaAdmin = Annotated[Principal, Depends(Allow(Permission.QUOTAS))]
SecretAdmin = Annotated[Principal, Depends(Allow(Permission.SECRETS))]
KeyHolder = Annotated[Principal, Depends(Allow(Permission.ACCESS))]
GrantAdmin = Annotated[Principal, Depends(Allow(Permission.GRANT))]
NodeIdentity = Annotated[Principal, Depends(Allow(Permission.REPORT))]
Holder = Annotated[Principal, Depends(Allow(Permission.FETCH))]
Uploader = Annotated[Principal, Depends(Allow(Permission.UPLOAD))]


def permission_of(route: APIRoute) -> Permission | None:
    """The permission that a route declares; None when it declares nothing."""
    declared = [call.permission for call in calls_of(route.dependant) if isinstance(call, Allow)]
    return declared[0] if declared else None


def takes_secret(route: APIRoute) -> bool:
    """True when the route asks for a join token, which makes a principal."""
    return any(isinstance(call, Joining) for call in calls_of(route.dependant))
