"""Tenants, tokens and principals: who may ask. Secrets are shown once; only their sha256 is stored.

A secret is `tfu_` (people), `tfs_` (services) or `tfj_` (join), 43 base62 characters of 256
random bits and 6 of a CRC, so that a scanner finds a leaked one without asking the server.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from sqlalchemy import ColumnElement, CursorResult, or_, select, update
from sqlalchemy.orm import Session

from fleet import events, permissions
from fleet.errors import InvalidSpec, NotFound, NotPermitted
from fleet.keyfiles import write_private
from fleet.models import Tenant, Token
from fleet.principals import Principal
from fleet.redaction import TOKEN

__all__ = [
    "DEFAULT_TENANT",
    "NO_JOIN_TOKEN",
    "Principal",
    "authenticate",
    "end",
    "ensure_admin",
    "get",
    "identify",
    "join_token",
    "mint",
    "mint_join",
    "page",
    "principal_of",
    "revoke",
    "spend_join",
    "used",
    "well_formed",
]

DEFAULT_TENANT = permissions.HOME
NO_JOIN_TOKEN = "the join token is unknown, expired or used already: ask for a new one"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIXES = {"user": "tfu", "service": "tfs", "node": "tfn", "join": "tfj"}
Role = Literal["admin", "operator", "user", "viewer"]
MINTED = ("viewer", "user", "operator", "admin")


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), 6)


def _new_secret(kind: str) -> str:
    body = f"{_PREFIXES[kind]}_{_base62(secrets.randbits(256), 43)}"
    return body + _checksum(body)


def well_formed(secret: str) -> bool:
    """True when `secret` has a token's shape and its CRC is right; says nothing of its being valid."""
    match = TOKEN.fullmatch(secret)
    return match is not None and match[3] == _checksum(f"{match[1]}_{match[2]}")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _insert(
    session: Session,
    kind: str,
    name: str,
    role: str,
    now: float,
    ttl_s: float | None,
    by: str,
    tenant: str = DEFAULT_TENANT,
    scopes: Iterable[str] | None = None,
) -> tuple[Token, str]:
    if session.get(Tenant, tenant) is None:
        session.add(Tenant(name=tenant, created_at=now))
        session.flush()
    secret = _new_secret(kind)
    token = Token(
        tenant=tenant,
        scopes=None if scopes is None else sorted(scopes),
        kind=kind,
        name=name,
        role=role,
        digest=_digest(secret),
        created_at=now,
        created_by=by,
        expires_at=None if ttl_s is None else now + ttl_s,
    )
    session.add(token)
    session.flush()
    return token, secret


def mint(
    session: Session,
    *,
    name: str,
    role: Role,
    now: float,
    ttl_s: float | None = None,
    kind: Literal["user", "service"] = "user",
    by: Principal | None = None,
    tenant: str | None = None,
    scopes: Iterable[str] | None = None,
) -> tuple[Token, str]:
    """A new token and its secret, shown this once.

    Nobody mints what reaches further than their own (NotPermitted): no permission, tenant or time that it lacks; a
    token that ends gives its minter's end to what is minted without one. Administrators of the home tenant mint for
    any tenant. `scopes`: the only permissions of the role that it gives.
    """
    if role not in MINTED:
        raise InvalidSpec("role", f"{role!r} is none of {', '.join(MINTED)}")
    asked = None if scopes is None else frozenset(scopes)
    if by is None:
        return _insert(session, kind, name, role, now, ttl_s, "server", tenant or DEFAULT_TENANT, asked)
    ttl_s = _within(by, now, ttl_s)
    home = tenant or by.tenant
    if home != by.tenant and by.tenant != DEFAULT_TENANT:
        raise NotPermitted(f"a token of the tenant {by.tenant} mints for no other")
    reach = permissions.of(Principal(kind, 0, name, by.tenant, role, asked))
    if not reach <= permissions.of(by):
        beyond = ", ".join(sorted(reach - permissions.of(by)))
        raise NotPermitted(f"your token cannot mint one that reaches further than itself: it lacks {beyond}")
    if asked is None and by.scopes is not None:
        asked = by.scopes  # what the role may gain later is not given away either
    token, secret = _insert(session, kind, name, role, now, ttl_s, _maker(by, home), home, asked)
    data = {"name": name, "role": role, "tenant": home, "scopes": token.scopes}
    events.audit(session, by, "token.mint", f"token:{token.id}", data, now)
    return token, secret


def _maker(by: Principal, home: str) -> str:
    """Who made a token of the tenant `home`: a name is somebody's in a tenant, and somebody else's in the next."""
    return str(by) if home == by.tenant else f"{by.tenant}/{by}"


def minted_by(tenant: str, who: str) -> ColumnElement[bool]:
    """Tokens that `who` (kind:name) of a tenant has minted, for it or for others."""
    here = (Token.tenant == tenant) & (Token.created_by == who)
    return here | (Token.created_by == f"{tenant}/{who}")


def _within(by: Principal, now: float, ttl_s: float | None) -> float | None:
    """A lifetime that ends no later than the minter's own. NotPermitted for a longer one."""
    if by.expires_at is None:
        return ttl_s
    left = by.expires_at - now
    if ttl_s is not None and ttl_s > left:
        raise NotPermitted(f"your token ends in {left:.0f} s, and what it mints cannot outlive it")
    return left if ttl_s is None else ttl_s


def mint_join(
    session: Session,
    *,
    now: float,
    ttl_s: float = 3600.0,
    by: Principal,
    pool: str | None = None,
    place: tuple[str, str] | None = None,
) -> str:
    """A join token's secret: it enrols one node, once, within `ttl_s` seconds, into `pool`, to stand at `place`: its
    site and rack, for which one has to be allowed to place nodes."""
    permissions.require(by, permissions.Permission.JOIN)
    if place is not None:
        permissions.require(by, permissions.Permission.OPERATE)
    ttl_s = _within(by, now, ttl_s) or ttl_s
    token, secret = _insert(session, "join", "join", "join", now, ttl_s, _maker(by, DEFAULT_TENANT))
    token.pool = pool
    token.site, token.rack = place or (None, None)
    session.flush()
    data = {"ttl_s": ttl_s, "pool": pool, "site": token.site, "rack": token.rack}
    events.audit(session, by, "token.mint_join", f"token:{token.id}", data, now)
    return secret


def join_token(session: Session, secret: str) -> Token | None:
    """The row of a join token, spent or not; None when there is none."""
    query = select(Token).where(Token.digest == _digest(secret), Token.kind == "join")
    return session.scalars(query).one_or_none()


def spend_join(session: Session, secret: str, now: float) -> Token:
    """Spend a join token by one conditional UPDATE; NotPermitted when it is spent, expired or unknown."""
    digest = _digest(secret)
    usable = (
        (Token.digest == digest)
        & (Token.kind == "join")
        & Token.used_at.is_(None)
        & Token.revoked_at.is_(None)
        & (Token.expires_at > now)
    )
    result = session.execute(update(Token).where(usable).values(used_at=now))
    if not well_formed(secret) or cast("CursorResult[None]", result).rowcount != 1:
        raise NotPermitted(NO_JOIN_TOKEN)
    return session.scalars(select(Token).where(Token.digest == digest)).one()


def authenticate(session: Session, secret: str, now: float) -> Principal:
    """Who holds this bearer token; NotPermitted when it is malformed, unknown, revoked or expired."""
    return principal_of(identify(session, secret, now))


def identify(session: Session, secret: str, now: float) -> Token:
    """The row of this bearer token; NotPermitted when it is malformed, unknown, revoked or expired."""
    if not well_formed(secret):
        raise NotPermitted("the bearer token is malformed: expected tfu_ or tfs_ and 49 characters")
    token = session.scalars(select(Token).where(Token.digest == _digest(secret))).one_or_none()
    if token is None or token.kind in ("join", "node"):  # nodes sign; their tokens were of earlier versions
        raise NotPermitted("the bearer token is unknown here")
    if token.revoked_at is not None:
        raise NotPermitted("the bearer token is revoked")
    if token.expires_at is not None and token.expires_at <= now:
        raise NotPermitted("the bearer token is expired")
    return token


def principal_of(token: Token) -> Principal:
    """Who asks with this token."""
    kind = cast(Literal["user", "service", "node"], token.kind)
    scopes = None if token.scopes is None else frozenset(map(str, token.scopes))
    return Principal(
        kind, token.node_id or token.id, token.name, token.tenant, token.role, scopes, token.expires_at
    )


def page(
    session: Session, after: int | None = None, limit: int = 50, tenant: str = DEFAULT_TENANT
) -> Sequence[Token]:
    """Tokens with ids above `after`, in order of id; of one tenant, but the home tenant sees all."""
    query = select(Token).where(Token.id > (after or 0)).order_by(Token.id).limit(limit)
    return session.scalars(query if tenant == DEFAULT_TENANT else query.where(Token.tenant == tenant)).all()


def get(session: Session, token_id: int, tenant: str = DEFAULT_TENANT) -> Token:
    """The token, or NotFound, also for another tenant's (the home tenant has all)."""
    token = session.get(Token, token_id)
    if token is None or tenant not in (token.tenant, DEFAULT_TENANT):
        raise NotFound("token", token_id)
    return token


def used(session: Session, uses: Mapping[int, float]) -> None:
    """Record when tokens (by id) were used last; an older time changes nothing."""
    for token_id, at in uses.items():
        older = or_(Token.last_used_at.is_(None), Token.last_used_at < at)
        session.execute(update(Token).where(Token.id == token_id, older).values(last_used_at=at))


def revoke(session: Session, token_id: int, principal: Principal, now: float) -> Token:
    """Revoke a token; doing so twice changes nothing."""
    permissions.require(principal, permissions.Permission.TOKENS)
    token = get(session, token_id, principal.tenant)
    if end(session, token, now):
        events.audit(session, principal, "token.revoke", f"token:{token_id}", {"name": token.name}, now)
    return token


def end(session: Session, token: Token, now: float) -> bool:
    """Revoke; the event wakes the streams that the token holds open. False when it was revoked already."""
    if token.revoked_at is not None:
        return False
    token.revoked_at = now
    events.append(session, "token.revoked", f"token:{token.id}", {"name": token.name}, now)
    return True


def ensure_admin(session: Session, path: Path, now: float) -> str | None:
    """At the first start, or when no administrator has a valid token: mint one, write it to `path` (mode 0600)
    and return it."""
    lasting = or_(Token.expires_at.is_(None), Token.expires_at > now)
    admin = (Token.role == "admin") & (Token.tenant == DEFAULT_TENANT) & Token.scopes.is_(None)
    admin &= Token.revoked_at.is_(None) & lasting
    if session.scalars(select(Token).where(admin).limit(1)).first() is not None:
        return None
    _, secret = mint(session, name="admin", role="admin", now=now)
    write_private(path, secret + "\n")
    return secret
