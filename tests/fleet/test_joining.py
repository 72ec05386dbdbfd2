"""The same search asked for again while it is in flight: by the same name or another, early or late, at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from fleet import db, searches
from fleet.agents.protocol import KernelRef, canonical_hash
from fleet.models import Node, Search
from tests.fleet.acting import KERNEL, KERNEL_HASH, TARGET_ID, Agent, inventory
from tests.fleet.stepping import Fleet, Submit

pytestmark = pytest.mark.slow

SENT = KernelRef(json=KERNEL)
OTHER_NAME = KernelRef(json={"nodes": ["the same kernel, sent otherwise"]})


def rows(fleet: Fleet) -> list[tuple[int, str]]:
    """Every search with its state, the oldest one first."""
    with db.reading(fleet.sessions) as reader:
        return sorted((row.id, row.state) for row in searches.page(reader))


def expand(fleet: Fleet, search: Search) -> None:
    """Step until the search knows its kernel's hash."""
    for _ in range(10):
        if fleet.look(search).kernel_hash is not None:
            return
        fleet.step()
    raise AssertionError("the search was not expanded")


def test_a_search_is_joined_after_each_of_its_steps(submit: Submit, fleet: Fleet) -> None:
    first = submit()
    joined = 0
    while fleet.look(first).state in ("queued", "running"):
        assert submit().id == first.id
        joined += 1
        fleet.step()
    assert joined > 5
    assert rows(fleet) == [(first.id, "done")]


@pytest.mark.slow
def test_a_refreshed_search_is_joined_after_each_of_its_steps(submit: Submit, fleet: Fleet) -> None:
    known = fleet.finish(submit())
    first = submit(refresh=True)
    while fleet.look(first).state in ("queued", "running"):
        assert submit(refresh=True).id == first.id
        fleet.step()
    assert rows(fleet) == [(known.id, "done"), (first.id, "done")]


def test_a_search_is_joined_by_other_names_of_its_kernel_once_they_are_known(
    submit: Submit, fleet: Fleet
) -> None:
    first = submit()
    expand(fleet, first)
    while fleet.look(first).state == "running":
        assert submit(kernel=SENT).id == first.id
        assert submit(kernel=KernelRef(hash=KERNEL_HASH)).id == first.id
        assert submit().id == first.id
        fleet.step()
    assert rows(fleet) == [(first.id, "done")]


def test_a_search_that_waits_is_joined_by_a_name_learnt_from_another_search(
    submit: Submit, fleet: Fleet
) -> None:
    first, waiting = submit(), submit(width=3)
    expand(fleet, first)
    assert fleet.look(waiting).kernel_hash is None
    assert submit(kernel=SENT, width=3).id == waiting.id


def test_two_names_that_were_unknown_make_two_searches_and_the_older_one_is_joined(
    submit: Submit, fleet: Fleet, agent: Agent
) -> None:
    first, second = submit(), submit(kernel=OTHER_NAME)
    assert first.id != second.id
    expand(fleet, first)
    assert submit().id == first.id
    assert submit(kernel=SENT).id == first.id
    assert submit(kernel=OTHER_NAME).id == second.id
    assert fleet.finish(first).state == "done"
    measured = len(agent.measured)
    assert fleet.finish(second).source == "cache"
    assert len(agent.measured) == measured


def test_a_search_of_before_there_was_a_node_is_joined_when_its_target_is_known(
    submit: Submit, fleet: Fleet
) -> None:
    with fleet.sessions.begin() as session:
        session.execute(update(Node).values(cores=1))
    first = submit(threads=2)
    assert first.target_id is None
    with fleet.sessions.begin() as session:
        session.execute(update(Node).values(cores=2))
    assert submit(threads=2).id == first.id
    fleet.step()
    assert fleet.look(first).target_id == TARGET_ID
    assert submit(threads=2).id == first.id


def test_a_search_is_joined_though_most_nodes_are_of_another_target_by_now(
    submit: Submit, fleet: Fleet, enroll: Callable[..., int]
) -> None:
    first = submit()
    fleet.step()
    target = {"arch": "acme-7-1+avx512"}
    for name in ("other1", "other2", "other3"):
        enroll(name, inventory(arch=target["arch"], target=target, target_id=canonical_hash(target)))
    assert submit().id == first.id


def test_an_architecture_joins_what_runs_on_its_target_and_not_what_may_go_elsewhere(
    submit: Submit, fleet: Fleet
) -> None:
    first = submit()
    queued = submit(arch="acme-6", width=3)
    assert submit(arch="acme-6").id != first.id
    assert submit(width=3).id == queued.id  # wherever that one goes, this one may
    fleet.step()
    assert submit(arch="acme-6-1").id == first.id


def test_a_search_with_other_limits_is_another_one(submit: Submit, fleet: Fleet) -> None:
    first = submit()
    others = [submit(**wanted).id for wanted in ({"width": 3}, {"budget_s": 31}, {"seed": 1}, {"threads": 2})]
    assert len({first.id, *others}) == 5


def test_a_search_that_has_ended_is_not_joined(submit: Submit, fleet: Fleet) -> None:
    first = fleet.finish(submit())
    again = submit(refresh=True)
    assert fleet.finish(again).state == "done"
    assert submit(refresh=True).id not in (first.id, again.id)


def test_a_kernel_tuned_by_another_search_meanwhile_answers_at_once(submit: Submit, fleet: Fleet) -> None:
    first, wider = submit(), submit(width=3)
    fleet.finish(first)
    assert fleet.look(wider).state in ("queued", "running")
    again = submit(width=3)
    assert (again.state, again.source) == ("done", "cache")
    assert submit(width=3).source == "cache"


def test_the_same_search_asked_for_at_once_is_one(submit: Submit, fleet: Fleet) -> None:
    with ThreadPoolExecutor(12) as pool:
        before = {row.id for row in pool.map(lambda _: submit(), range(12))}
    (only,) = rows(fleet)
    assert before == {only[0]}
    fleet.step()
    fleet.step()
    with ThreadPoolExecutor(12) as pool:
        assert {row.id for row in pool.map(lambda _: submit(), range(12))} == before
