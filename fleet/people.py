"""People: one act takes somebody out everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from fleet import access, access_keys, arrays, crons, events, jobs, permissions, searches, tenants, webhooks
from fleet.errors import InvalidSpec, NotFound
from fleet.lifecycle import JOB, SEARCH, SearchEvent
from fleet.models import Job, Search, SshKey, Token
from fleet.principals import Principal


@dataclass(frozen=True)
class Removal:
    """What ended with a person, by count."""

    name: str
    tokens: int
    jobs: int
    searches: int
    crons: int = 0
    webhooks: int = 0
    keys: int = 0
    grants: int = 0
    arrays: int = 0


def remove(session: Session, name: str, principal: Principal, now: float) -> Removal:
    """End every token of a person, and every token that was minted with one of these and so on, with the event
    streams that they hold open; cancel what they have queued or running, arrays that are not whole among it, and pause their crons and webhooks; remove
    their SSH keys and those that were added with such a token, and end every login with the sessions that are open.

    NotFound when the tenant has nobody of this name, InvalidSpec for oneself.
    """
    permissions.require(principal, permissions.Permission.PEOPLE)
    if name == principal.name and principal.kind == "user":
        raise InvalidSpec("name", "this is you: let another administrator remove you")
    tokens = _tokens(session, principal.tenant, name)
    keys = _keys(session, principal.tenant, name, [token.id for token in tokens])
    if not tokens and not keys:
        raise NotFound("person", name)
    ended = sum(tenants.end(session, token, now) for token in tokens)
    makers: dict[str, set[str]] = {principal.tenant: {f"user:{name}"}}
    for token in tokens:
        makers.setdefault(token.tenant, set()).add(f"{token.kind}:{token.name}")
    removal = Removal(
        name,
        keys=len(keys),
        grants=_end_logins(session, principal, name, keys, now),
        tokens=ended,
        arrays=sum(
            arrays.disown(session, *of, now) for of in makers.items()
        ),  # before their jobs, which are counted with them
        searches=sum(_cancel_searches(session, *of, now) for of in makers.items()),
        jobs=sum(_cancel_jobs(session, *of, now) for of in makers.items()),
        crons=sum(crons.disown(session, *of, now) for of in makers.items()),
        webhooks=sum(webhooks.disown(session, *of, now) for of in makers.items()),
    )
    counts = {each: count for each, count in vars(removal).items() if each != "name"}
    events.audit(session, principal, "person.remove", f"person:{name}", counts, now)
    return removal


def _tokens(session: Session, tenant: str, name: str) -> list[Token]:
    """The person's tokens and all that descend from them; who knew a secret at its minting knows it still. Somebody of the
    same name in another tenant is somebody else."""
    own = (Token.tenant == tenant) & (Token.kind == "user") & (Token.name == name)
    found = list(session.scalars(select(Token).where(own)))
    seen, fresh = {token.id for token in found}, found
    while fresh:
        makers = {(token.tenant, f"{token.kind}:{token.name}") for token in fresh}
        minted = select(Token).where(
            or_(*(tenants.minted_by(*each) for each in makers)), Token.id.not_in(seen)
        )
        fresh = [token for token in session.scalars(minted) if token.kind != "node"]
        found += fresh
        seen |= {token.id for token in fresh}
    return found


def _keys(session: Session, tenant: str, name: str, token_ids: list[int]) -> list[SshKey]:
    """The person's own, and what was added with a token whose secret they knew."""
    theirs = ((SshKey.tenant == tenant) & (SshKey.person == name)) | SshKey.token_id.in_(token_ids)
    return list(session.scalars(select(SshKey).where(theirs, SshKey.removed_at.is_(None))))


def _end_logins(session: Session, principal: Principal, name: str, keys: list[SshKey], now: float) -> int:
    reason = "the person was removed"
    ended = sum(access_keys.end(session, key, reason, principal, now) for key in keys)
    left = access.open_grants(session, principal.tenant, name)
    return ended + sum(access.end(session, grant, reason, principal, now) for grant in left)


def _cancel_searches(session: Session, tenant: str, makers: set[str], now: float) -> int:
    live = [state for state in SEARCH.states if state not in SEARCH.final]
    theirs = (Search.tenant == tenant) & Search.created_by.in_(makers) & Search.state.in_(live)
    rows = session.scalars(select(Search).where(theirs)).all()
    for row in rows:
        searches.fire(session, row, SearchEvent.CANCEL, now, finished_at=now, reason="its person was removed")
        searches.stop_work(session, row, now)
    return len(rows)


def _cancel_jobs(session: Session, tenant: str, makers: set[str], now: float) -> int:
    live = [state for state, exits in JOB.edges.items() if any(each == "cancel" for each in exits)]
    theirs = (Job.tenant == tenant) & Job.created_by.in_(makers) & Job.state.in_(live)
    rows = session.scalars(select(Job).where(theirs, Job.search_id.is_(None))).all()
    for row in rows:
        jobs.stop(session, row, now)
    return len(rows)
