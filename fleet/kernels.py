"""Kernels the fleet has seen, the cache of tuned ones (who is served which), and the quarantine of candidates.

The cache key is (kernel hash, target id, threads); a target id covers architecture, compiler and flags. Two
references may mean one kernel: an alias leads from a reference's key to the kernel's hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from fleet import blobs, db, events, holders, permissions
from fleet.agents.protocol import (
    MAX_KERNEL_JSON,
    CandidateResult,
    KernelRef,
    KernelSpec,
)
from fleet.errors import InvalidSpec, NotFound
from fleet.models import Blob, Kernel, KernelAlias, Quarantine, Search, TunedKernel
from fleet.principals import Principal

# ------------------------------------------------------------------------------------------- kernels


def check(session: Session, kernel: KernelRef, field: str, tenant: str) -> None:
    """InvalidSpec when the document is too large, or the hash neither one that a search has met nor that of a blob of
    the tenant."""
    if kernel.document is not None:
        size = len(json.dumps(kernel.document, separators=(",", ":")))
        if size > MAX_KERNEL_JSON:
            raise InvalidSpec(f"{field}.json", f"{size} bytes are more than {MAX_KERNEL_JSON}")
    if kernel.hash is not None and session.get(Kernel, kernel.hash) is None:
        blob = session.get(Blob, kernel.hash)
        mine = holders.may_use(session, tenant, [kernel.hash])
        if blob is None or not mine or blob.size > MAX_KERNEL_JSON:
            raise InvalidSpec(f"{field}.hash", f"the fleet has no kernel {kernel.hash}: send it as json")
        blobs.touch(session, [kernel.hash], db.now(session))


def learn(
    session: Session, ref_key: str, kernel_hash: str, document: dict[str, Any] | None, now: float
) -> None:
    """Remember that a reference (by its key) means a kernel, and the kernel's document when it is at hand: sent as
    json, that is a name of it too."""
    names = [ref_key]
    if document:
        names.append(KernelRef(json=document).key())
        if session.get(Kernel, kernel_hash) is None:
            session.add(Kernel(hash=kernel_hash, document=document, created_at=now))
    for name in names:
        if session.get(KernelAlias, name) is None:
            session.add(KernelAlias(ref_key=name, kernel_hash=kernel_hash))
    session.flush()


def hash_of(session: Session, kernel: KernelRef) -> str | None:
    """The kernel's hash, when the fleet has met this reference before or it is one."""
    alias = session.get(KernelAlias, kernel.key())
    return alias.kernel_hash if alias else kernel.hash


def with_document(session: Session, kernel: KernelRef) -> KernelRef:
    """The reference with its document where that is at hand. Of another hash the document is the blob at that
    address, for the agent to fetch: a kernel's hash is that of its text."""
    row = session.get(Kernel, kernel.hash) if kernel.hash is not None else None
    return kernel if row is None else KernelRef(json=row.document)


def resolve(session: Session, spec: KernelSpec, target_id: str | None, tenant: str) -> KernelSpec:
    """A kernel job's spec for one device: the document filled in, and the tuned schedule where it is wanted."""
    changes: dict[str, Any] = {"kernel": with_document(session, spec.kernel)}
    if spec.schedule == "tuned" or "tuned" in spec.compare:
        found = lookup(session, spec.kernel, target_id, spec.threads, tenant)
        changes["tuned"] = found.schedule if found else None
    return spec.model_copy(update=changes)


# --------------------------------------------------------------------------------------- tuned kernels


def lookup(
    session: Session, kernel: KernelRef | str, target_id: str | None, threads: int, tenant: str
) -> TunedKernel | None:
    """The fastest tuned kernel of a reference (or kernel hash) for this target and thread count that this tenant is
    served: a confirmed one, or one that its own search has found."""
    kernel_hash = kernel if isinstance(kernel, str) else hash_of(session, kernel)
    if kernel_hash is None or target_id is None:
        return None
    query = select(TunedKernel).where(
        TunedKernel.kernel_hash == kernel_hash,
        TunedKernel.target_id == target_id,
        TunedKernel.threads == threads,
        holders.served(tenant),
    )
    return session.scalars(query.order_by(TunedKernel.time_s, TunedKernel.id).limit(1)).first()


def page(
    session: Session, after: int | None = None, limit: int = 50, tenant: str = "default"
) -> Sequence[TunedKernel]:
    """The tuned kernels that a tenant is served, newest first, with ids below the cursor `after`."""
    query = select(TunedKernel).where(holders.served(tenant)).order_by(TunedKernel.id.desc()).limit(limit)
    return session.scalars(query if after is None else query.where(TunedKernel.id < after)).all()


def get(session: Session, tuned_id: int, tenant: str = "default") -> TunedKernel:
    """The tuned kernel, or NotFound, also for one that this tenant is not served."""
    row = session.scalars(
        select(TunedKernel).where(TunedKernel.id == tuned_id, holders.served(tenant))
    ).first()
    if row is None:
        raise NotFound("tuned kernel", tuned_id)
    return row


def schedules(session: Session, tuned_ids: Iterable[int]) -> Mapping[int, list[list[Any]]]:
    """The schedules of tuned kernels by id."""
    query = select(TunedKernel.id, TunedKernel.schedule).where(TunedKernel.id.in_(set(tuned_ids)))
    return dict(session.execute(query).all())


def record(
    session: Session,
    search: Search,
    winner: CandidateResult,
    *,
    arch: str,
    node_id: int,
    source_blob: str | None,
    now: float,
    found_by: int | None = None,
    confirmed: bool = False,
) -> TunedKernel:
    """Keep a search's winner, timed by `node_id` and measured first by `found_by`; a faster one that its tenant is
    served already stays. `confirmed`: `node_id` is the second opinion."""
    if search.kernel_hash is None or search.target_id is None or winner.time_s is None:
        raise InvalidSpec("winner", "a tuned kernel needs a kernel hash, a target and a time")
    key = (search.kernel_hash, search.target_id, search.threads)
    known = lookup(session, *key, search.tenant)
    if known is not None and known.time_s <= winner.time_s:
        return known
    row = _claim(session, *key, search.tenant) or TunedKernel(
        kernel_hash=key[0], target_id=key[1], threads=key[2], tenant=search.tenant
    )
    row.kernel, row.arch, row.created_at = search.kernel, arch, now
    row.schedule, row.schedule_hash, row.time_s = winner.schedule, winner.hash, winner.time_s
    row.flops, row.bytes = search.flops or 0.0, search.bytes or 0.0
    row.max_error, row.tolerance, row.source_blob = winner.max_error, winner.tolerance, source_blob
    row.search_id, row.node_id, row.found_by = search.id, node_id, found_by
    row.confirm_job_id, row.confirm_tries = None, 0
    session.add(row)
    session.flush()
    data = {"kernel_hash": row.kernel_hash, "time_s": row.time_s, "search": search.id}
    events.append(session, "kernel.tuned", f"kernel:{row.id}", data, now)
    return confirm(session, row, by=node_id, time_s=row.time_s, now=now) if confirmed else row


def _claim(
    session: Session, kernel_hash: str, target_id: str, threads: int, tenant: str
) -> TunedKernel | None:
    key = {"kernel_hash": kernel_hash, "target_id": target_id, "threads": threads, "tenant": tenant}
    query = select(TunedKernel).filter_by(**key).where(TunedKernel.confirmed_at.is_(None))
    return session.scalars(query).one_or_none()


def confirm(session: Session, row: TunedKernel, *, by: int, time_s: float, now: float) -> TunedKernel:
    """A second opinion has found the kernel right, at its own time: everybody is served it, unless a faster one was
    confirmed before. The row that stays is returned; searches of the other one lead to it."""
    known = session.scalars(
        select(TunedKernel).where(
            TunedKernel.kernel_hash == row.kernel_hash,
            TunedKernel.target_id == row.target_id,
            TunedKernel.threads == row.threads,
            TunedKernel.confirmed_at.is_not(None),
        )
    ).one_or_none()
    if known is not None and known.time_s <= time_s:
        _replace(session, row, known)
        return known
    if known is not None:
        _replace(session, known, row)
    claimed_s, row.time_s = row.time_s, time_s
    row.confirmed_at, row.confirmed_by, row.confirm_job_id = now, by, None
    session.flush()
    data = {"by": by, "time_s": time_s, "claimed_s": claimed_s}
    events.append(session, "kernel.confirmed", f"kernel:{row.id}", data, now)
    return row


def _replace(session: Session, old: TunedKernel, new: TunedKernel | None) -> None:
    """Take a row away; searches that led to it lead to the other one, or nowhere."""
    leads = update(Search).where(Search.tuned_kernel_id == old.id)
    session.execute(leads.values(tuned_kernel_id=None if new is None else new.id))
    session.delete(old)
    session.flush()


def drop(session: Session, row: TunedKernel, kind: str, data: Mapping[str, Any], now: float) -> None:
    """Take a tuned kernel out of the cache, with the event that says why."""
    about = {"kernel_hash": row.kernel_hash, "schedule_hash": row.schedule_hash, "node": row.node_id}
    _replace(session, row, None)
    events.append(session, kind, f"kernel:{row.id}", about | dict(data), now)


@dataclass(frozen=True)
class Taken:
    """What rested on a node's word, and was taken back."""

    kernels: list[TunedKernel]
    quarantined: list[Quarantine]


def purge(
    session: Session, node_id: int, since: float, principal: Principal, now: float, dry_run: bool
) -> Taken:
    """Take back a node's word since then (epoch seconds): every tuned kernel that rests on it, confirmed or not, and what is
    in quarantine because of it, which every search is kept from. A dry run only says which. NotPermitted for anybody but an
    administrator."""
    permissions.require(principal, permissions.Permission.TRUST)
    said = or_(
        TunedKernel.node_id == node_id, TunedKernel.found_by == node_id, TunedKernel.confirmed_by == node_id
    )
    recent = or_(TunedKernel.created_at >= since, TunedKernel.confirmed_at >= since)
    rows = list(session.scalars(select(TunedKernel).where(said, recent).order_by(TunedKernel.id)))
    accused = (Quarantine.node_id == node_id) & (Quarantine.created_at >= since)
    set_free = list(session.scalars(select(Quarantine).where(accused).order_by(Quarantine.id)))
    if not dry_run:
        for row in rows:
            drop(session, row, "kernel.purged", {"purged_node": node_id}, now)
        for each in set_free:
            session.delete(each)
            about = {"schedule_hash": each.schedule_hash, "purged_node": node_id}
            events.append(session, "kernel.released", f"quarantine:{each.id}", about, now)
        data = {
            "node": node_id,
            "since": since,
            "kernels": [row.id for row in rows],
            "quarantined": [each.id for each in set_free],
        }
        events.audit(session, principal, "kernel.purge", f"node:{node_id}", data, now)
    return Taken(rows, set_free)


# ------------------------------------------------------------------------------------------ quarantine


def set_aside(
    session: Session,
    search: Search,
    culprit: CandidateResult,
    *,
    node_id: int,
    source_blob: str | None,
    now: float,
) -> None:
    """Quarantine a candidate of a search that crashed, hung, lied or wrote out of bounds; `node_id` says so."""
    key = {
        "kernel_hash": search.kernel_hash or "",
        "target_id": search.target_id or "",
        "threads": search.threads,
        "schedule_hash": culprit.hash,
    }
    if session.scalars(select(Quarantine).filter_by(**key)).first() is not None:
        return
    row = Quarantine(
        **key,
        schedule=culprit.schedule,
        outcome=culprit.outcome,
        detail=culprit.detail,
        source_blob=source_blob,
        search_id=search.id,
        node_id=node_id,
        created_at=now,
    )
    session.add(row)
    session.flush()
    data = {"outcome": str(culprit.outcome), "search": search.id, "schedule_hash": culprit.hash}
    events.append(session, "kernel.quarantined", f"quarantine:{row.id}", data, now)


def quarantine(
    session: Session, tenant: str, after: int | None = None, limit: int = 50
) -> Sequence[Quarantine]:
    """Candidates in quarantine that a tenant's own searches found, newest first, with ids below the cursor `after`; the
    home tenant sees everybody's. (Every search is kept from all of them.)"""
    query = select(Quarantine).order_by(Quarantine.id.desc()).limit(limit)
    if tenant != permissions.HOME:
        query = query.join(Search, Quarantine.search_id == Search.id).where(Search.tenant == tenant)
    return session.scalars(query if after is None else query.where(Quarantine.id < after)).all()


def barred(session: Session, kernel_hash: str | None, target_id: str | None, threads: int) -> frozenset[str]:
    """Schedule hashes in quarantine for this cache key: never proposed again."""
    query = select(Quarantine.schedule_hash).where(
        Quarantine.kernel_hash == kernel_hash,
        Quarantine.target_id == target_id,
        Quarantine.threads == threads,
    )
    return frozenset(session.scalars(query))
