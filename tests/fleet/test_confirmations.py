"""Tuned kernels are their finder's alone until a second sealed node has confirmed them; and what is taken back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, events, jobs, kernels, nodes, searches, trust
from fleet.agents.protocol import CandidateOutcome
from fleet.blobs import Blobs
from fleet.errors import InvalidSpec, NotFound, NotPermitted
from fleet.models import Quarantine, Search, Tenant, TunedKernel
from fleet.principals import Principal
from fleet.searches import SearchRequest
from fleet.standing_rows import Trust
from tests.fleet.acting import GEMM, KERNEL_HASH, TARGET_ID, Agent
from tests.fleet.stepping import Fleet, Submit

OTHERS = "another tenant"


@pytest.fixture
def second(sessions: sessionmaker[Session], blobs: Blobs, agent: Agent, enroll: Callable[..., int]) -> Agent:
    """The agent of a second sealed node, tiny2, of the same target."""
    return Agent(sessions, blobs, enroll("tiny2"))


class Pair:
    """Two nodes, of which the second one takes no part in searches until it is let in."""

    def __init__(self, fleet: Fleet, second: Agent, admin: Principal) -> None:
        self.fleet, self.second, self.admin = fleet, second, admin
        fleet.agents = (*fleet.agents, second)
        self.away(True)

    def away(self, yes: bool) -> None:
        with self.fleet.sessions.begin() as session:
            wish = nodes.cordon if yes else nodes.uncordon
            wish(session, self.second.node_id, self.admin, self.fleet.now)

    def standing(self, node_id: int) -> str:
        with db.reading(self.fleet.sessions) as reader:
            return trust.standing(reader, node_id).trust

    def seal(self, node_id: int, to: Trust) -> None:
        with self.fleet.sessions.begin() as session:
            trust.decide(session, node_id, to, "as the test says", self.admin, self.fleet.now)

    def found(self, submit: Submit) -> int:
        """A search by the first node alone; the id of what it has found."""
        done = self.fleet.finish(submit(max_rounds=1))
        assert done.state == "done", done.error
        assert done.tuned_kernel_id is not None
        return done.tuned_kernel_id

    def step(self, times: int = 4) -> None:
        for _ in range(times):
            self.fleet.step()


@pytest.fixture
def pair(fleet: Fleet, second: Agent, admin: Principal) -> Pair:
    """Two sealed nodes; the second is cordoned."""
    return Pair(fleet, second, admin)


def served(fleet: Fleet, tenant: str) -> TunedKernel | None:
    """What a tenant is served of the kernel."""
    with db.reading(fleet.sessions) as reader:
        return kernels.lookup(reader, KERNEL_HASH, TARGET_ID, 1, tenant)


def kinds(fleet: Fleet) -> list[str]:
    """The kinds of events about kernels, oldest first."""
    with db.reading(fleet.sessions) as reader:
        found = events.page(reader, limit=10_000)
    return [event.kind for event in found if event.kind.startswith("kernel.")]


def test_in_a_fleet_of_one_the_searchs_own_second_run_confirms_and_nothing_more_is_run(
    submit: Submit, fleet: Fleet, agent: Agent
) -> None:
    fleet.finish(submit(max_rounds=1))
    row = served(fleet, OTHERS)
    assert row is not None
    assert row.confirmed_by == agent.node_id
    assert fleet.step() == fleet.step() == []
    with db.reading(fleet.sessions) as reader:
        seeds = {job.spec["seed"] for kind in ("measure", "confirm") for job in jobs.page(reader, kind=kind)}
    assert len(seeds) == 2


def test_with_a_second_node_it_is_its_finders_alone_until_that_one_confirms(
    submit: Submit, pair: Pair
) -> None:
    kernel_id = pair.found(submit)
    mine = served(pair.fleet, "default")
    assert mine is not None
    assert (mine.id, mine.confirmed_at) == (kernel_id, None)
    assert served(pair.fleet, OTHERS) is None
    with db.reading(pair.fleet.sessions) as reader:
        assert [row.id for row in kernels.page(reader)] == [kernel_id]
        assert kernels.page(reader, tenant=OTHERS) == []
        with pytest.raises(NotFound):
            kernels.get(reader, kernel_id, OTHERS)
    pair.step()
    assert served(pair.fleet, OTHERS) is None  # the second node is away: it is waited for
    pair.away(False)
    pair.step()
    theirs = served(pair.fleet, OTHERS)
    assert theirs is not None
    assert (theirs.id, theirs.confirmed_by) == (kernel_id, pair.second.node_id)
    assert kinds(pair.fleet) == ["kernel.tuned", "kernel.confirming", "kernel.confirmed"]
    with db.reading(pair.fleet.sessions) as reader:
        [job] = [job for job in jobs.page(reader, kind="confirm") if job.search_id is None]
        assert (job.node_id, job.priority < 0, job.state) == (pair.second.node_id, True, "succeeded")


def test_a_forged_time_is_replaced_by_the_second_nodes(submit: Submit, pair: Pair) -> None:
    kernel_id = pair.found(submit)
    with pair.fleet.sessions.begin() as session:
        row = session.get_one(TunedKernel, kernel_id)
        honest, row.time_s = row.time_s, 1e-9
    pair.away(False)
    pair.step()
    theirs = served(pair.fleet, OTHERS)
    assert theirs is not None
    assert theirs.time_s == honest


def test_what_the_second_node_finds_wrong_goes_and_its_finder_counts_for_less(
    submit: Submit, pair: Pair, agent: Agent
) -> None:
    kernel_id = pair.found(submit)
    pair.second.verdict = lambda _kind, _schedule: CandidateOutcome.WRONG
    pair.away(False)
    pair.step()
    assert served(pair.fleet, OTHERS) is served(pair.fleet, "default") is None
    assert kinds(pair.fleet)[-2:] == ["kernel.quarantined", "kernel.refuted"]
    assert pair.standing(agent.node_id) == "shared"
    assert pair.standing(pair.second.node_id) == "sealed"
    with db.reading(pair.fleet.sessions) as reader:
        assert reader.scalars(select(Search.tuned_kernel_id)).all() == [None]
        assert [row.outcome for row in reader.scalars(select(Quarantine))] == ["wrong"]
        with pytest.raises(NotFound):
            kernels.get(reader, kernel_id)


def test_a_run_that_says_nothing_is_repeated_three_times_and_no_more(submit: Submit, pair: Pair) -> None:
    pair.found(submit)
    pair.second.verdict = lambda _kind, _schedule: CandidateOutcome.SKIPPED
    pair.away(False)
    pair.step(12)
    assert served(pair.fleet, OTHERS) is None
    assert kinds(pair.fleet).count("kernel.confirming") == 3


def test_a_node_that_is_not_sealed_confirms_for_nobody(submit: Submit, pair: Pair, agent: Agent) -> None:
    pair.seal(agent.node_id, Trust.SHARED)
    pair.seal(pair.second.node_id, Trust.TAINTED)
    kernel_id = pair.found(submit)
    pair.away(False)
    pair.step()
    assert served(pair.fleet, OTHERS) is None
    pair.seal(agent.node_id, Trust.SEALED)  # alone: a fleet of one, with another seed
    pair.step()
    theirs = served(pair.fleet, OTHERS)
    assert theirs is not None
    assert (theirs.id, theirs.confirmed_by) == (kernel_id, agent.node_id)


def test_a_faster_claim_leaves_the_confirmed_kernel_to_everybody_else(
    submit: Submit, pair: Pair, agent: Agent
) -> None:
    kernel_id = pair.found(submit)
    pair.away(False)
    pair.step()
    pair.away(True)
    with pair.fleet.sessions.begin() as session:
        session.get_one(TunedKernel, kernel_id).time_s = 10.0
    faster = pair.found(lambda **wanted: submit(refresh=True, seed=5, **wanted))
    assert faster != kernel_id
    mine, theirs = served(pair.fleet, "default"), served(pair.fleet, OTHERS)
    assert mine is not None
    assert theirs is not None
    assert (mine.id, theirs.id) == (faster, kernel_id)
    pair.away(False)
    pair.step()
    theirs = served(pair.fleet, OTHERS)
    assert theirs is not None
    assert theirs.id == faster
    with db.reading(pair.fleet.sessions) as reader:
        assert set(reader.scalars(select(Search.tuned_kernel_id))) == {faster}


# ----------------------------------------------------------------------------------------------- purges


def test_what_rests_on_a_nodes_word_is_taken_back_by_node_and_time(
    submit: Submit, fleet: Fleet, agent: Agent, admin: Principal, enroll: Callable[..., int]
) -> None:
    fleet.finish(submit(max_rounds=1))
    other = enroll("tiny9")

    def purge(node_id: int, since: float, dry_run: bool = False) -> int:
        with fleet.sessions.begin() as session:
            return len(kernels.purge(session, node_id, since, admin, fleet.now, dry_run).kernels)

    assert purge(other, 0.0) == purge(agent.node_id, fleet.now + 60) == 0
    assert purge(agent.node_id, 0.0, dry_run=True) == 1
    assert served(fleet, "default") is not None
    assert purge(agent.node_id, fleet.now - 60) == 1
    assert served(fleet, "default") is None
    assert kinds(fleet)[-1] == "kernel.purged"
    with db.reading(fleet.sessions) as reader:
        rows = [row for row in events.audit_page(reader, limit=1000) if row.action == "kernel.purge"]
    assert [len(row.data["kernels"]) for row in rows] == [0, 0, 1]
    assert submit(max_rounds=1).source == "search"  # nothing is known: it is searched for again


def test_a_schedule_that_a_node_has_lied_about_is_searched_again_once_its_word_is_taken_back(
    submit: Submit, pair: Pair, agent: Agent
) -> None:
    """Every search is kept from what is in quarantine: one lie would take the best schedule from everybody for good."""
    pair.found(submit)
    pair.second.verdict = lambda _kind, _schedule: CandidateOutcome.WRONG
    pair.away(False)
    pair.step()

    def purge(node_id: int, since: float, dry_run: bool = False) -> list[str]:
        with pair.fleet.sessions.begin() as session:
            taken = kernels.purge(session, node_id, since, pair.admin, pair.fleet.now, dry_run)
            return [row.schedule_hash for row in taken.quarantined]

    def barred() -> frozenset[str]:
        with db.reading(pair.fleet.sessions) as reader:
            return kernels.barred(reader, KERNEL_HASH, TARGET_ID, 1)

    [lie] = barred()
    liar = pair.second.node_id
    assert purge(agent.node_id, 0.0) == purge(liar, pair.fleet.now + 60) == []
    assert purge(liar, 0.0, dry_run=True) == [lie]
    assert barred() == {lie}
    assert purge(liar, 0.0) == [lie]
    assert barred() == frozenset()
    assert kinds(pair.fleet)[-1] == "kernel.released"


def test_only_an_administrator_purges_or_changes_trust(session: Session, agent: Agent, now: float) -> None:
    user = Principal("user", 9, "ada", "default", "user")
    with pytest.raises(NotPermitted, match="this takes the permission"):
        kernels.purge(session, agent.node_id, 0.0, user, now, dry_run=True)
    with pytest.raises(NotPermitted, match="this takes the permission"):
        trust.decide(session, agent.node_id, Trust.SEALED, "please", user, now)


def test_trust_falls_by_itself_and_is_raised_by_an_administrator_with_a_reason(
    session: Session, agent: Agent, admin: Principal, now: float
) -> None:
    assert trust.note_walls(session, agent.node_id, [], ["landlock"], now)
    assert not trust.note_walls(session, agent.node_id, ["landlock"], ["landlock"], now)
    assert trust.lower(session, agent.node_id, Trust.TAINTED, "it lied", now)
    assert not trust.lower(session, agent.node_id, Trust.SHARED, "people", now)
    with pytest.raises(InvalidSpec, match="say why"):
        trust.decide(session, agent.node_id, Trust.SEALED, " ", admin, now)
    assert trust.decide(session, agent.node_id, Trust.SEALED, "new image", admin, now).trust == "sealed"
    told = [event.data["trust"] for event in events.page(session, limit=1000) if event.kind == "node.trust"]
    assert told == ["shared", "tainted", "sealed"]
    audited = [row for row in events.audit_page(session, limit=1000) if row.action == "node.trust"]
    assert [row.data["reason"] for row in audited] == ["new image"]


def test_a_search_in_flight_is_joined_by_its_own_tenant_only(
    sessions: sessionmaker[Session], agent: Agent, admin: Principal, now: float
) -> None:
    request = SearchRequest(kernel=GEMM)
    with sessions.begin() as session:
        session.add(Tenant(name=OTHERS, created_at=now))
        other = Principal("user", 9, "eve", OTHERS, "user")
        found = [
            searches.submit(session, request, principal=who, now=now).id
            for who in (admin, admin, other, other)
        ]
    assert (found[0], found[2]) == (found[1], found[3])
    assert found[0] != found[2]
