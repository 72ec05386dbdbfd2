"""Which node keeps which data sets: said by the nodes, and a reason to place a command there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet.agents.protocol import CachedData
from fleet.models import Job, NodeData


def note(session: Session, node_id: int, kept: Sequence[CachedData], now: float) -> None:
    """What a node says that it keeps: all of it."""
    row = session.get(NodeData, node_id)
    if row is None:
        row = NodeData(node_id=node_id, data_sets={}, said_at=now)
        session.add(row)
    row.data_sets = {each.data_set: each.bytes for each in kept}
    row.said_at = now
    session.flush()


def kept(session: Session, node_ids: Iterable[int]) -> Mapping[int, Mapping[str, int]]:
    """Data set → bytes of each of these nodes that has said so."""
    query = select(NodeData.node_id, NodeData.data_sets).where(NodeData.node_id.in_(list(node_ids)))
    return dict(session.execute(query).all())


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
