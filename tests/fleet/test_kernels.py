"""The cache of tuned kernels, and the quarantine."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from fleet import kernels, searches
from fleet.agents.protocol import CandidateOutcome, CandidateResult, KernelRef, canonical_hash
from fleet.errors import InvalidSpec, NotFound
from fleet.models import Node, Search
from fleet.principals import Principal
from fleet.searches import SearchRequest
from tests.fleet.acting import GEMM, KERNEL_HASH, TARGET_ID


@pytest.fixture
def search(session: Session, node: Node, admin: Principal, now: float) -> Search:
    """A search that knows which kernel it is about."""
    found = searches.submit(session, SearchRequest(kernel=GEMM), principal=admin, now=now)
    found.kernel_hash, found.flops, found.bytes = KERNEL_HASH, 1e6, 1e4
    session.flush()
    return found


def candidate(time_s: float, outcome: CandidateOutcome = CandidateOutcome.OK) -> CandidateResult:
    """A result with a schedule of its own."""
    schedule = [["UPCAST", "out", 0, int(time_s * 1000), None]]
    return CandidateResult(
        hash=canonical_hash(schedule), schedule=schedule, outcome=outcome, time_s=time_s, detail="said"
    )


def test_a_faster_winner_replaces_a_slower_one_and_not_the_other_way(
    session: Session, search: Search, node: Node, now: float
) -> None:
    def record(time_s: float) -> tuple[int, float]:
        row = kernels.record(
            session,
            search,
            candidate(time_s),
            arch="acme",
            node_id=node.id,
            source_blob=None,
            now=now,
        )
        return row.id, row.time_s

    first, _ = record(0.5)
    assert record(0.7) == (first, 0.5)
    assert record(0.3) == (first, 0.3)
    assert len(kernels.page(session)) == 1


def test_the_cache_key_is_kernel_target_and_threads(
    session: Session, search: Search, node: Node, now: float
) -> None:
    kernels.record(session, search, candidate(0.5), arch="acme", node_id=node.id, source_blob=None, now=now)
    assert kernels.lookup(session, KERNEL_HASH, TARGET_ID, 1, "default") is not None
    assert kernels.lookup(session, KERNEL_HASH, TARGET_ID, 2, "default") is None
    assert kernels.lookup(session, KERNEL_HASH, "0" * 64, 1, "default") is None
    assert kernels.lookup(session, GEMM, TARGET_ID, 1, "default") is None  # nobody has said yet what gemm is
    kernels.learn(session, GEMM.key(), KERNEL_HASH, None, now)
    assert kernels.lookup(session, GEMM, TARGET_ID, 1, "default") is not None


def test_a_kernel_by_hash_becomes_its_document_for_agents(session: Session, now: float) -> None:
    kernels.learn(session, "key", KERNEL_HASH, {"nodes": [1]}, now)
    by_hash = KernelRef(hash=KERNEL_HASH)
    kernels.check(session, by_hash, "kernel", "default")
    assert kernels.with_document(session, by_hash).document == {"nodes": [1]}
    assert kernels.with_document(session, GEMM) is GEMM


def test_an_unknown_hash_is_refused_by_name(session: Session) -> None:
    with pytest.raises(InvalidSpec, match="the fleet has no kernel"):
        kernels.check(session, KernelRef(hash=KERNEL_HASH), "kernel", "default")
    with pytest.raises(NotFound):
        kernels.get(session, 1)


def test_a_culprit_is_quarantined_once(session: Session, search: Search, node: Node, now: float) -> None:
    culprit = candidate(0.5, CandidateOutcome.CRASHED)
    for _ in range(2):
        kernels.set_aside(session, search, culprit, node_id=node.id, source_blob=None, now=now)
    (row,) = kernels.quarantine(session, "default")
    assert (row.outcome, row.detail, row.search_id) == ("crashed", "said", search.id)
    assert kernels.barred(session, KERNEL_HASH, TARGET_ID, 1) == {culprit.hash}
    assert kernels.barred(session, KERNEL_HASH, TARGET_ID, 2) == frozenset()
