"""Kernels the fleet has seen, the cache of tuned ones, and the quarantine of candidates that misbehaved.

The cache key is (kernel hash, target id, threads); a target id covers architecture, compiler and flags. Two
references may mean one kernel: an alias leads from a reference's key to the kernel's hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import events
from fleet.agents.protocol import (
    MAX_KERNEL_JSON,
    CandidateResult,
    KernelRef,
    KernelSpec,
)
from fleet.errors import InvalidSpec, NotFound
from fleet.models import Blob, Kernel, KernelAlias, Quarantine, Search, TunedKernel

# ------------------------------------------------------------------------------------------- kernels


def check(session: Session, kernel: KernelRef, field: str) -> None:
    """InvalidSpec when the document is too large, or the hash neither one that a search has met nor a blob's."""
    if kernel.document is not None:
        size = len(json.dumps(kernel.document, separators=(",", ":")))
        if size > MAX_KERNEL_JSON:
            raise InvalidSpec(f"{field}.json", f"{size} bytes are more than {MAX_KERNEL_JSON}")
    if kernel.hash is not None and session.get(Kernel, kernel.hash) is None:
        blob = session.get(Blob, kernel.hash)
        if blob is None or blob.size > MAX_KERNEL_JSON:
            raise InvalidSpec(f"{field}.hash", f"the fleet has no kernel {kernel.hash}: send it as json")


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


def resolve(session: Session, spec: KernelSpec, target_id: str | None) -> KernelSpec:
    """A kernel job's spec for one device: the document filled in, and the tuned schedule where it is wanted."""
    changes: dict[str, Any] = {"kernel": with_document(session, spec.kernel)}
    if spec.schedule == "tuned" or "tuned" in spec.compare:
        found = lookup(session, spec.kernel, target_id, spec.threads)
        changes["tuned"] = found.schedule if found else None
    return spec.model_copy(update=changes)


# --------------------------------------------------------------------------------------- tuned kernels


def lookup(
    session: Session, kernel: KernelRef | str, target_id: str | None, threads: int
) -> TunedKernel | None:
    """The tuned kernel of a reference (or kernel hash) for this target and thread count."""
    kernel_hash = kernel if isinstance(kernel, str) else hash_of(session, kernel)
    if kernel_hash is None or target_id is None:
        return None
    return session.scalars(
        select(TunedKernel).where(
            TunedKernel.kernel_hash == kernel_hash,
            TunedKernel.target_id == target_id,
            TunedKernel.threads == threads,
        )
    ).one_or_none()


def page(session: Session, after: int | None = None, limit: int = 50) -> Sequence[TunedKernel]:
    """Tuned kernels, newest first, with ids below the cursor `after`."""
    query = select(TunedKernel).order_by(TunedKernel.id.desc()).limit(limit)
    return session.scalars(query if after is None else query.where(TunedKernel.id < after)).all()


def get(session: Session, tuned_id: int) -> TunedKernel:
    """The tuned kernel, or NotFound."""
    row = session.get(TunedKernel, tuned_id)
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
) -> TunedKernel:
    """Keep a search's confirmed winner; a faster one that is known already stays."""
    if search.kernel_hash is None or search.target_id is None or winner.time_s is None:
        raise InvalidSpec("winner", "a tuned kernel needs a kernel hash, a target and a time")
    known = lookup(session, search.kernel_hash, search.target_id, search.threads)
    if known is not None and known.time_s <= winner.time_s:
        return known
    row = known or TunedKernel(
        kernel_hash=search.kernel_hash, target_id=search.target_id, threads=search.threads
    )
    row.kernel, row.arch, row.created_at = search.kernel, arch, now
    row.schedule, row.schedule_hash, row.time_s = winner.schedule, winner.hash, winner.time_s
    row.flops, row.bytes = search.flops or 0.0, search.bytes or 0.0
    row.max_error, row.tolerance, row.source_blob = winner.max_error, winner.tolerance, source_blob
    row.search_id, row.node_id = search.id, node_id
    session.add(row)
    session.flush()
    data = {"kernel_hash": row.kernel_hash, "time_s": row.time_s, "search": search.id}
    events.append(session, "kernel.tuned", f"kernel:{row.id}", data, now)
    return row


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
    """Quarantine a candidate of a search that crashed, hung, lied or wrote out of bounds."""
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


def quarantine(session: Session, after: int | None = None, limit: int = 50) -> Sequence[Quarantine]:
    """Quarantined candidates, newest first, with ids below the cursor `after`."""
    query = select(Quarantine).order_by(Quarantine.id.desc()).limit(limit)
    return session.scalars(query if after is None else query.where(Quarantine.id < after)).all()


def barred(session: Session, kernel_hash: str | None, target_id: str | None, threads: int) -> frozenset[str]:
    """Schedule hashes in quarantine for this cache key: never proposed again."""
    query = select(Quarantine.schedule_hash).where(
        Quarantine.kernel_hash == kernel_hash,
        Quarantine.target_id == target_id,
        Quarantine.threads == threads,
    )
    return frozenset(session.scalars(query))
