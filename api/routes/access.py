"""People's SSH keys, the logins that they ask for, and how nodes are reached by ssh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

from fastapi import Query, Response
from pydantic import Field, StrictFloat

from api.auth import GrantAdmin, KeyHolder, Reader
from api.body import StrictRoute
from api.deps import IdempotencyKey, Parts, PartsDep, Reading, WaitQuery, Writing
from api.pages import LARGEST_ID, PageDep, RowId, next_cursor
from api.routing import Router
from api.schemas import Request, problems
from api.waits import grant_key
from fleet import access, access_keys, access_nodes, forges, idempotency, models, nodes, ssh_authority
from fleet.agents.protocol import Name, Positive
from fleet.db import Session, now
from fleet.errors import NotFound
from fleet.guard import guarded_client
from fleet.lifecycle import GrantState
from fleet.principals import Principal
from fleet.resources import Page
from fleet.resources_access import Grant, GrantPlace, ImportedKeys, SshCertificate, SshHost, SshKey

router = Router(
    prefix="/v1", tags=["access"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
Reason = Annotated[str, Field(min_length=1, max_length=access.LONGEST_REASON)]
Duration = Annotated[StrictFloat, Field(ge=access.SHORTEST_S, le=access.LONGEST_S, description="seconds")]


class KeyRequest(Request):
    """A public key to keep."""

    public_key: Annotated[
        str,
        Field(min_length=1, max_length=20_000, description="one line, TYPE BASE64 [COMMENT], as a .pub file"),
    ]
    label: Annotated[str, Field(max_length=access_keys.LONGEST_LABEL)] = ""


class ImportRequest(Request):
    """Whose keys to take over from a forge, once."""

    forge: Annotated[
        str, Field(min_length=1, max_length=253, description=f"{', '.join(forges.KNOWN)}, or a host's name")
    ]
    user: Annotated[str, Field(min_length=1, max_length=64)]


class GrantRequest(Request):
    """A login to ask for: on a pool or a node."""

    pool: Name | None = None
    node: Positive | Name | None = Field(default=None, description="by id (a number) or name (a text)")
    key: Positive | None = Field(
        default=None, description="which of one's keys; may be left out with one key"
    )
    duration_s: Duration = access.USUAL_S
    reason: Reason


class ApproveRequest(Request):
    """For how long, when it is to be less than was asked for."""

    duration_s: Duration | None = None


class EndRequest(Request):
    """Why it is refused or ended."""

    reason: Reason


class CertificateRequest(Request):
    """For how long a certificate should be good."""

    ttl_s: Annotated[StrictFloat, Field(ge=60, le=ssh_authority.LONGEST_S)] = ssh_authority.LONGEST_S


@router.get("/ssh-keys", summary="List one's SSH keys")
def list_keys(principal: KeyHolder, session: Reading, page: PageDep) -> Page[SshKey]:
    """In order of id; everybody's for who decides about logins."""
    rows = access_keys.page(session, principal, page.after, page.limit)
    return Page(items=[SshKey.model_validate(row) for row in rows], next=next_cursor(rows, page))


@router.post(
    "/ssh-keys", status_code=201, summary="Keep an SSH key of one's own", responses=problems(409, 413, 415)
)
def add_key(
    principal: KeyHolder, session: Writing, request: KeyRequest, key: IdempotencyKey = None
) -> SshKey:
    """ed25519, ecdsa, their security-key forms, and RSA of 3072 bits or more; the comment is only a label."""
    body, moment = request.model_dump(mode="json"), now(session)
    earlier = idempotency.earlier(session, principal, "ssh-key", key, body)
    if earlier is not None:
        return SshKey.model_validate(access_keys.get(session, earlier))
    found = access_keys.parsed(request.public_key)
    row = access_keys.add(session, found, request.label, principal, moment)
    idempotency.remember(session, principal, "ssh-key", key, body, row.id, moment)
    return SshKey.model_validate(row)


@router.post(
    "/ssh-keys/import",
    status_code=201,
    summary="Take over one's keys from a forge, once",
    responses=problems(409, 413, 415),
)
def import_keys(
    principal: KeyHolder, parts: PartsDep, request: ImportRequest, key: IdempotencyKey = None
) -> ImportedKeys:
    """What the forge shows now is kept; what it shows later changes nothing."""
    access.person(principal)
    body = request.model_dump(mode="json")
    with parts.read() as session:
        earlier = idempotency.earlier(session, principal, "ssh-keys-import", key, body)
        if earlier is not None:
            return _imported(forges.taken(session, earlier))
    with guarded_client() as client:  # before the transaction: the forge may take its time
        lines = forges.fetch(client, request.forge, request.user)
    with parts.write() as session:
        moment = now(session)
        found = forges.take(session, request.forge, request.user, lines, principal, moment)
        idempotency.remember(session, principal, "ssh-keys-import", key, body, found.added[0].id, moment)
        kept = _imported(found)
    parts.controllers.changed()
    return kept


def _imported(found: forges.Imported) -> ImportedKeys:
    added = [SshKey.model_validate(row) for row in found.added]
    return ImportedKeys(source=found.source, added=added, refused=list(found.refused))


@router.delete("/ssh-keys/{key_id}", summary="Remove an SSH key", responses=problems(404))
def remove_key(principal: KeyHolder, session: Writing, key_id: RowId) -> SshKey:
    """The logins that were granted to it end. One's own; anybody's for who decides about logins."""
    return SshKey.model_validate(access_keys.remove(session, key_id, principal, now(session)))


# --------------------------------------------------------------------------------------------- grants


@router.get("/grants", summary="List logins")
def list_grants(
    principal: KeyHolder,
    session: Reading,
    page: PageDep,
    state: Annotated[GrantState | None, Query(description="only those in this state")] = None,
) -> Page[Grant]:
    """One's own, in order of id; everybody's for who decides about logins."""
    rows = access.page(session, principal, page.after, page.limit, state)
    return Page(items=_grants(session, rows), next=next_cursor(rows, page))


@router.post("/grants", status_code=201, summary="Ask for a login", responses=problems(404, 409, 413, 415))
def request_grant(
    principal: KeyHolder, session: Writing, request: GrantRequest, key: IdempotencyKey = None
) -> Grant:
    """With a key of one's own, on a pool or a node. An administrator decides."""
    wish = access.Wish(
        duration_s=request.duration_s,
        reason=request.reason,
        pool=request.pool,
        node_id=nodes.named(session, request.node) if isinstance(request.node, str) else request.node,
        key_id=request.key,
    )
    return _grant(session, access.request(session, wish, principal, now(session), key))


@router.get("/grants/{grant_id}", summary="Get a login, or wait for news of it", responses=problems(404))
async def get_grant(
    principal: KeyHolder,
    parts: PartsDep,
    grant_id: RowId,
    wait: WaitQuery = 0.0,
    seen: Annotated[
        int,
        Query(ge=0, le=LARGEST_ID, description="the `version` that is known already: wait for a later one"),
    ] = 0,
) -> Grant:
    """With `wait`, answers when something happened to it, else after so many seconds with the login as it then is."""
    look = partial(_read, parts, grant_id, principal)
    return await parts.waits.look_until(grant_key(grant_id), wait, look, lambda found: found.version > seen)


@router.post("/grants/{grant_id}/approve", summary="Grant a login", responses=problems(404, 409, 413, 415))
def approve_grant(
    principal: GrantAdmin, session: Writing, grant_id: RowId, request: ApproveRequest | None = None
) -> Grant:
    """From now on; its nodes are told at once, and each says when it lets the key in."""
    duration_s = None if request is None else request.duration_s
    return _grant(session, access.approve(session, grant_id, principal, now(session), duration_s))


@router.post("/grants/{grant_id}/deny", summary="Refuse a login", responses=problems(404, 409, 413, 415))
def deny_grant(principal: GrantAdmin, session: Writing, grant_id: RowId, request: EndRequest) -> Grant:
    """Whoever asked sees why."""
    return _grant(session, access.deny(session, grant_id, request.reason, principal, now(session)))


@router.post("/grants/{grant_id}/revoke", summary="End a login", responses=problems(404, 409, 413, 415))
def revoke_grant(principal: KeyHolder, session: Writing, grant_id: RowId, request: EndRequest) -> Grant:
    """Its nodes take the key out and end the person's sessions, and each says so. One's own; anybody's for who decides
    about logins. A request that nobody has decided about is taken back."""
    return _grant(session, access.revoke(session, grant_id, request.reason, principal, now(session)))


@router.post(
    "/grants/{grant_id}/certificate",
    summary="Make out a certificate for a login",
    responses=problems(404, 413, 415),
)
def certify_grant(
    principal: KeyHolder,
    session: Writing,
    parts: PartsDep,
    grant_id: RowId,
    response: Response,
    request: CertificateRequest | None = None,
) -> SshCertificate:
    """For the key of the login, 8 h at most, where the fleet has an SSH authority."""
    ttl_s = (request or CertificateRequest()).ttl_s
    path = parts.settings.fleet.ssh_authority_file
    made = ssh_authority.issue(session, path, grant_id, ttl_s, principal, now(session))
    response.headers["Cache-Control"] = "no-store"
    return SshCertificate.model_validate(
        {"certificate": made.line, "serial": made.serial, "until": made.until}
    )


# ---------------------------------------------------------------------------------------------- hosts


@router.get("/ssh/hosts", summary="List how nodes are reached by ssh")
def list_hosts(principal: Reader, session: Reading, page: PageDep) -> Page[SshHost]:
    """With their host keys, as the nodes themselves reported them under their signatures: nothing is trusted on first
    use."""
    found = access_nodes.hosts(session, principal, page.after, page.limit)
    last = found[-1].node_id if len(found) == page.limit else None
    return Page(items=[_host(each) for each in found], next=last)


@router.get("/ssh/hosts/{node_id}", summary="Get how a node is reached by ssh", responses=problems(404))
def get_host(principal: Reader, session: Reading, node_id: RowId) -> SshHost:
    """404 also for a node whose agent does not look after logins."""
    found = access_nodes.hosts(session, principal, None, 1, node_id)
    if not found:
        raise NotFound("ssh host", node_id)
    return _host(found[0])


def _host(found: access_nodes.Host) -> SshHost:
    return SshHost.model_validate({**vars(found), "alias": access_nodes.alias(found.node)})


def _read(parts: Parts, grant_id: int, principal: Principal) -> Grant:
    with parts.read() as session:
        return _grant(session, access.get(session, grant_id, principal))


def _grant(session: Session, row: models.Grant) -> Grant:
    (found,) = _grants(session, [row])
    return found


def _grants(session: Session, rows: Sequence[models.Grant]) -> list[Grant]:
    """Grants with where each stands on its nodes."""
    places = access.places(session, [row.id for row in rows])
    node_ids = {place.node_id for found in places.values() for place in found}
    named = nodes.names(session, node_ids | {row.node_id for row in rows if row.node_id is not None})
    reached = access.reached(session, node_ids)
    return [_resource(session, row, places[row.id], named, reached) for row in rows]


def _resource(
    session: Session,
    row: models.Grant,
    places: Sequence[models.GrantNode],
    named: Mapping[int, str],
    reached: Mapping[int, models.NodeAccess],
) -> Grant:
    key = access_keys.get(session, row.key_id)
    account = access.account_of(session, row)
    shown = [
        _place(row, place, named[place.node_id], reached.get(place.node_id), account) for place in places
    ]
    said = sum((place.applied_at is not None) + (place.gone_at is not None) for place in places)
    fields = {name: getattr(row, name) for name in Grant.model_fields if hasattr(row, name)}
    fields |= {
        "node": None if row.node_id is None else named[row.node_id],
        "key": key.fingerprint,
        "account": account,
        "nodes": shown,
    }
    return Grant.model_validate({**fields, "version": row.generation + said})


def _place(
    row: models.Grant, place: models.GrantNode, name: str, said: models.NodeAccess | None, account: str
) -> GrantPlace:
    in_force = row.state == GrantState.ACTIVE and place.applied_at is not None and place.end_asked_at is None
    after = (
        None if place.gone_at is None or place.end_asked_at is None else place.gone_at - place.end_asked_at
    )
    problem = "its agent does not look after logins" if said is None else said.problem
    return GrantPlace(
        node_id=place.node_id,
        node=name,
        asked_at=place.asked_at,
        applied_at=place.applied_at,
        end_asked_at=place.end_asked_at,
        gone_at=place.gone_at,
        gone_after_s=None if after is None else round(after, 3),
        ssh=access_nodes.command(name, said, account) if in_force and said is not None else "",
        problem="" if place.applied_at is not None else problem,
    )
