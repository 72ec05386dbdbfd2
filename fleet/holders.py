"""Whose blobs are whose. An address is no permission: it says what the bytes are, and not who may have them.

A tenant holds what it has uploaded (which shows that it had the bytes), and what its jobs have made. A node holds what it
has uploaded, and may read besides what its live attempts need. A tuned kernel that a tenant is served is its to read.
Whoever may not read a blob is answered as if there were none, also when asking whether it is there: to upload it then is
what shows that one has it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import ColumnElement, Text, cast, exists, insert, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fleet.errors import NotFound
from fleet.lifecycle import AttemptState
from fleet.models import Attempt, Blob, BlobHolder, Job, StoredDataSet, TunedKernel
from fleet.principals import Principal

_AT_ONCE = 500


def of_tenant(name: str) -> str:
    """The holder that a tenant is."""
    return f"tenant:{name}"


def of(principal: Principal) -> str:
    """The holder that a principal acts for: a node for itself, everybody else for their tenant."""
    return f"node:{principal.id}" if principal.kind == "node" else of_tenant(principal.tenant)


def held(session: Session, holder: str, addresses: Iterable[str]) -> set[str]:
    """Those of the addresses that the holder holds."""
    wanted, found = list(dict.fromkeys(addresses)), set()
    for start in range(0, len(wanted), _AT_ONCE):
        batch = wanted[start : start + _AT_ONCE]
        query = select(BlobHolder.address).where(BlobHolder.holder == holder)
        found |= set(session.scalars(query.where(BlobHolder.address.in_(batch))))
    return found


def hold(session: Session, holder: str, addresses: Collection[str], now: float) -> None:
    """From now on the holder holds these blobs; those that have no row are left out."""
    missing = sorted(set(addresses) - held(session, holder, addresses))
    for address in missing:
        if session.get(Blob, address) is None:
            continue
        try:
            with session.begin_nested():
                session.execute(insert(BlobHolder).values(address=address, holder=holder, since=now))
        except IntegrityError:  # another upload of the same was faster, or the collector was
            continue


def hand_over(session: Session, node_id: int, tenant: str, addresses: Collection[str], now: float) -> None:
    """What a node says that a tenant's job has made is the tenant's, as far as this very node has uploaded it: it cannot
    give away what it only knows the name of."""
    hold(session, of_tenant(tenant), held(session, f"node:{node_id}", addresses), now)


def check(session: Session, principal: Principal, address: str) -> None:
    """NotFound unless the principal may read the blob."""
    if held(session, of(principal), [address]):
        return
    needed = _needed(session, principal.id, address) if principal.kind == "node" else False
    if not needed and not (principal.kind != "node" and _served(session, principal.tenant, address)):
        raise NotFound("blob", address)


def may_use(session: Session, tenant: str, addresses: Collection[str]) -> set[str]:
    """Those of the addresses that a tenant may put into its jobs."""
    own = held(session, of_tenant(tenant), addresses)
    return own | {each for each in set(addresses) - own if _served(session, tenant, each)}


def served(tenant: str) -> ColumnElement[bool]:
    """Of the tuned kernels, those that a tenant is served: confirmed ones, and its own."""
    return or_(TunedKernel.confirmed_at.is_not(None), TunedKernel.tenant == tenant)


def _served(session: Session, tenant: str, address: str) -> bool:
    named = or_(TunedKernel.source_blob == address, TunedKernel.kernel_hash == address)
    return bool(session.scalar(select(exists().where(served(tenant), named))))


def _needed(session: Session, node_id: int, address: str) -> bool:
    """Whether a live attempt of the node reads it: as one of its inputs, or in one of its data sets."""
    live = (Attempt.node_id == node_id) & (Attempt.state != AttemptState.ENDED)
    query = select(Job.tenant, Attempt.blobs, Attempt.spec).join(Job, Job.id == Attempt.job_id).where(live)
    for tenant, blobs, spec in session.execute(query):
        data_sets = list(spec.get("data", {}).values())
        if address in blobs or address in data_sets or _in_data_set(session, tenant, data_sets, address):
            return True
    return False


def _in_data_set(session: Session, tenant: str, data_sets: Collection[str], address: str) -> bool:
    """By the text of the list of parts, which may be long: to read it once for each part would take long."""
    if not data_sets:
        return False
    listed = cast(StoredDataSet.parts, Text).contains(address)
    mine = (StoredDataSet.tenant == tenant) & StoredDataSet.address.in_(data_sets)
    return bool(session.scalar(select(exists().where(mine, listed))))
