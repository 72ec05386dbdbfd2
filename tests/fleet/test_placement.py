"""Which device for which job, and why not: plain values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.agents.protocol import JobKind
from fleet.order import Waiting
from fleet.placement import Delay, Placement, place
from fleet.requirements import DeviceView, Needs, NodeView

CPU = DeviceView(id=10, name="cpu", kind="cpu", arch="acme-6+avx2", target_id="t1", slots=2)
TINY1 = NodeView(1, "tiny1", "ready", False, "online", 4, (CPU,))
TINY2 = NodeView(2, "tiny2", "ready", False, "online", 4, (replace(CPU, id=20),))


def job(number: int, kind: JobKind = JobKind.NOOP, **wanted: Any) -> Waiting:
    """A queued job."""
    waiting = {
        key: wanted.pop(key) for key in ("priority", "asked_at", "queued_at", "avoid") if key in wanted
    }
    return Waiting(number, 1, Needs(kind, **wanted), **waiting)


def where(jobs: list[Waiting], *nodes: NodeView, now: float = 0.0) -> dict[int, int | str]:
    """Job → the node it is placed on, or the reason it waits."""
    placed, delayed = place(jobs, nodes, now)
    found: dict[int, int | str] = {each.job_id: each.node_id for each in placed}
    return found | {each.job_id: each.reason for each in delayed}


def test_a_job_goes_to_a_free_device() -> None:
    assert place([job(7)], [TINY1], 0.0) == ([Placement(7, 1, 1, 10, exclusive=False)], [])


def test_shared_jobs_fill_the_slots_and_the_rest_waits() -> None:
    found = where([job(1), job(2), job(3)], TINY1)
    assert found == {1: 1, 2: 1, 3: "waits for a device: tiny1/cpu has no free slot"}


def test_shared_jobs_spread_over_nodes() -> None:
    assert sorted(where([job(1), job(2)], TINY1, TINY2).values(), key=str) == [1, 2]


def test_a_measuring_job_is_alone_on_its_device() -> None:
    found = where([job(1, JobKind.KERNEL), job(2), job(3, JobKind.MEASURE)], TINY1)
    assert found[1] == 1
    assert found[2] == found[3] == "waits for a device: tiny1/cpu is held exclusively"


def test_a_measuring_job_waits_for_shared_ones_to_end() -> None:
    busy = replace(TINY1, devices=(replace(CPU, shared_held=1),))
    assert where([job(1, JobKind.CONFIRM)], busy) == {1: "waits for a device: tiny1/cpu is shared by 1"}


def test_priority_goes_before_age() -> None:
    one_slot = replace(TINY1, devices=(replace(CPU, slots=1),))
    assert where([job(1), job(2, priority=5)], one_slot)[2] == 1


def test_a_job_that_fits_nowhere_does_not_block_those_behind_it() -> None:
    found = where([job(1, arch="other"), job(2)], TINY1)
    assert found[2] == 1
    assert found[1] == "no node fits: tiny1 has architecture acme-6+avx2, not other"


def test_an_exclusive_job_that_has_waited_keeps_its_device_from_new_shared_work() -> None:
    busy = replace(TINY1, devices=(replace(CPU, shared_held=1),))
    jobs = [job(1, JobKind.MEASURE, queued_at=0.0), job(2)]
    assert where(jobs, busy, now=1.0)[2] == 1
    assert where(jobs, busy, now=3.0)[2] == "waits for a device: tiny1/cpu is kept free for an exclusive job"


def test_an_exclusive_job_holds_up_one_node_only_the_one_that_is_free_first() -> None:
    late = replace(TINY1, devices=(replace(CPU, shared_held=1, free_at=500.0),))
    soon = replace(TINY2, devices=(replace(CPU, id=20, shared_held=1, free_at=100.0),))
    jobs = [job(1, JobKind.MEASURE), job(2), job(3)]
    found = where(jobs, late, soon, now=3.0)
    assert found[2] == 1
    assert found[3] == (
        "waits for a device: tiny1/cpu has no free slot; tiny2/cpu is kept free for an exclusive job"
    )


def test_two_exclusive_jobs_hold_up_two_nodes() -> None:
    one = replace(TINY1, devices=(replace(CPU, shared_held=1, free_at=100.0),))
    two = replace(TINY2, devices=(replace(CPU, id=20, shared_held=1, free_at=100.0),))
    found = where([job(1, JobKind.MEASURE), job(2, JobKind.CONFIRM), job(3)], one, two, now=3.0)
    assert str(found[3]).count("is kept free") == 2


def test_a_stream_of_small_jobs_does_not_starve_an_exclusive_one() -> None:
    """Two slots that never end at once, and a new job of three seconds every second."""
    measure, ends, waiting = job(1, JobKind.MEASURE), [1.0, 3.0], []
    for second in range(20):
        ends = [end for end in ends if end > second]
        busy = replace(CPU, shared_held=len(ends), free_at=max(ends, default=0.0))
        waiting.append(job(100 + second, queued_at=float(second)))
        placed, _ = place([measure, *waiting], [replace(TINY1, devices=(busy,))], float(second))
        ids = {each.job_id for each in placed}
        if measure.id in ids:
            break
        waiting = [each for each in waiting if each.id not in ids]
        ends += [second + 3.0 for _ in ids]
    assert ids == {measure.id}
    assert second == 4  # what had begun when the hold did has ended


def test_the_jobs_of_a_search_are_as_old_as_the_search() -> None:
    one_slot = replace(TINY1, devices=(replace(CPU, slots=1),))
    crowd = [job(number, asked_at=200.0) for number in range(1, 5)]
    assert where([*crowd, job(9, JobKind.MEASURE, asked_at=100.0)], one_slot)[9] == 1


def test_a_job_for_another_node_says_so() -> None:
    away = replace(TINY2, contact="lost")
    assert where([job(1, node_id=2)], TINY1, away) == {
        1: "no node fits: tiny1 is not the node asked for; tiny2 is lost"
    }


def test_a_job_for_a_node_that_was_retired_says_so() -> None:
    assert where([job(1, node_id=7)], TINY1) == {1: "no node fits: the node that it is for was retired"}


def test_a_retry_goes_to_another_node_when_one_fits() -> None:
    assert where([job(1, avoid=frozenset({1}))], TINY1, TINY2) == {1: 2}
    assert where([job(1, avoid=frozenset({1}))], TINY1) == {1: 1}


def test_a_retry_waits_for_another_node_that_is_only_busy() -> None:
    busy = replace(TINY2, devices=(replace(CPU, id=20, exclusive_held=True),))
    found = where([job(1, avoid=frozenset({1}))], TINY1, busy)
    assert found == {1: "waits for a device: tiny2/cpu is held exclusively"}


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (replace(TINY1, cordoned=True), "is cordoned"),
        (replace(TINY1, state="draining"), "is draining"),
        (replace(TINY1, state="enrolled"), "is enrolled"),
        (replace(TINY1, contact="late"), "is late"),
        (replace(TINY1, contact="lost"), "is lost"),
        (replace(TINY1, devices=()), "has no cpu device"),
        (replace(TINY1, devices=(replace(CPU, present=False),)), "has no cpu device"),
        (replace(TINY1, cores=1), "has 1 cores, not 2"),
        (replace(TINY1, devices=(replace(CPU, target_id="t2"),)), "has another target"),
        (
            replace(TINY1, devices=(replace(CPU, problem="no compiler: install gcc"),)),
            "cannot compile: no compiler: install gcc",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_says_what_is_wrong_with_the_node(node: NodeView, why: str) -> None:
    wanted = job(1, JobKind.MEASURE, threads=2, target_id="t1", node_id=1)
    assert place([wanted], [node], 0.0) == ([], [Delay(1, 1, f"no node fits: tiny1 {why}")])


def test_without_nodes_the_reason_says_so() -> None:
    assert where([job(1)]) == {1: "no node is enrolled"}


def test_a_noop_needs_no_compiler() -> None:
    bare = replace(TINY1, devices=(replace(CPU, target_id=None, problem="no compiler"),))
    assert where([job(1)], bare) == {1: 1}


def test_a_reason_names_three_nodes_and_counts_the_others() -> None:
    nodes = [replace(TINY1, id=n, name=f"n{n}", cordoned=True) for n in range(5)]
    assert where([job(1)], *nodes)[1] == (
        "no node fits: n0 is cordoned; n1 is cordoned; n2 is cordoned; and 2 more"
    )


def test_an_arch_is_a_prefix() -> None:
    assert where([job(1, arch="acme-6")], TINY1) == {1: 1}


def test_jobs_of_one_requirement_have_the_same_text_whatever_their_kind() -> None:
    assert Needs(JobKind.MEASURE, target_id="t").text() == Needs(JobKind.CONFIRM, target_id="t").text()
    assert Needs(JobKind.EXPAND).text() != Needs(JobKind.NOOP).text()
