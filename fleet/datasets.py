"""Data sets: those of a tenant, whose blobs stay while they do; and which node keeps which, a reason to place a command there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import blobs, events, holders, permissions
from fleet.agents.protocol import CachedData, DataList
from fleet.errors import InvalidSpec, NotFound
from fleet.models import Job, NodeData, StoredDataSet
from fleet.principals import Principal

_AT_ONCE = 500


def listed(content: bytes) -> DataList:
    """What a blob lists. InvalidSpec for one that lists no data set."""
    try:
        return DataList.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the blob"
        raise InvalidSpec("data_set", f"this lists no data set: {where}: {first['msg']}") from error


def put(session: Session, address: str, found: DataList, principal: Principal, now: float) -> StoredDataSet:
    """Keep a data set for the principal's tenant; again it changes nothing. InvalidSpec when a part is not here."""
    permissions.require(principal, permissions.Permission.UPLOAD)
    parts = list(dict.fromkeys(part for file in found.files for part in file.parts))
    for start in range(0, len(parts), _AT_ONCE):
        batch = parts[start : start + _AT_ONCE]
        own = holders.held(session, holders.of(principal), batch)
        missing = set(batch) - blobs.touch(session, own, now)
        if missing:
            raise InvalidSpec("data_set", f"its part {min(missing)} is not here: upload it first")
    row = session.get(StoredDataSet, (principal.tenant, address))
    if row is None:
        row = StoredDataSet(
            tenant=principal.tenant,
            address=address,
            files=len(found.files),
            bytes=found.size,
            parts=parts,
            created_by=str(principal),
            created_at=now,
        )
        session.add(row)
        session.flush()
        events.audit(session, principal, "data.put", f"data:{address}", {"bytes": row.bytes}, now)
    return row


def page(session: Session, tenant: str, after: str = "", limit: int = 50) -> Sequence[StoredDataSet]:
    """A tenant's data sets, in order of addresses."""
    query = select(StoredDataSet).where(StoredDataSet.tenant == tenant, StoredDataSet.address > after)
    return session.scalars(query.order_by(StoredDataSet.address).limit(limit)).all()


def remove(session: Session, address: str, principal: Principal, now: float) -> None:
    """Keep it no more; its blobs go when nothing else refers to them. NotFound."""
    permissions.require(principal, permissions.Permission.UPLOAD)
    row = session.get(StoredDataSet, (principal.tenant, address))
    if row is None:
        raise NotFound("data set", address)
    session.delete(row)
    events.audit(session, principal, "data.remove", f"data:{address}", {}, now)


def missing(session: Session, tenant: str, addresses: Iterable[str]) -> set[str]:
    """Those of the addresses that are no data sets of the tenant."""
    asked = set(addresses)
    known = select(StoredDataSet.address).where(StoredDataSet.tenant == tenant)
    return asked - set(session.scalars(known.where(StoredDataSet.address.in_(asked))))


def note(session: Session, node_id: int, kept: Sequence[CachedData], now: float) -> None:
    """What a node says that it keeps: all of it."""
    row = session.get(NodeData, node_id)
    if row is None:
        row = NodeData(node_id=node_id, data_sets={}, said_at=now)
        session.add(row)
    row.data_sets = {each.data_set: each.bytes for each in kept}
    row.said_at = now
    session.flush()


def kept(session: Session, node_ids: Iterable[int], tenant: str) -> Mapping[int, Mapping[str, int]]:
    """Data set → bytes of each of these nodes that has said so. A tenant's own: who knows an address may read the blob."""
    query = select(NodeData.node_id, NodeData.data_sets).where(NodeData.node_id.in_(list(node_ids)))
    found = session.execute(query).all()
    others = missing(session, tenant, {address for _, sets in found for address in sets})
    return {
        node_id: {address: size for address, size in sets.items() if address not in others}
        for node_id, sets in found
    }


def wanted(session: Session, job_ids: Sequence[int]) -> Mapping[int, frozenset[str]]:
    """The data sets that each of these jobs reads, for those that read any."""
    data = Job.spec["data"]
    found = session.execute(select(Job.id, data).where(Job.id.in_(job_ids), Job.kind == "command"))
    return {job_id: frozenset(said.values()) for job_id, said in found if said}


def nearness(session: Session, job_ids: Sequence[int]) -> Mapping[int, tuple[tuple[int, int], ...]]:
    """How many bytes of what each of these jobs reads each node keeps: pairs (node, bytes), for those that keep any."""
    reads = wanted(session, job_ids)
    if not reads:
        return {}
    holders = session.execute(select(NodeData.node_id, NodeData.data_sets)).all()
    return {
        job_id: tuple(
            (node_id, size)
            for node_id, data_sets in holders
            if (size := sum(data_sets.get(each, 0) for each in sets))
        )
        for job_id, sets in reads.items()
    }
