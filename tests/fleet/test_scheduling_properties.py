"""What holds for every fleet and every queue: made up at random, decided by the real planner on a simulated clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.agents.protocol import JobKind
from fleet.occupancy import Seat
from fleet.order import HIGHEST, LOWEST, SHARE_POINTS, Account, Waiting, bound_s, score
from fleet.placement import Decisions, Running, decide, place
from fleet.requirements import TRUSTS, Needs, NodeView, Window, misfits, suitable
from fleet.why import Why, explain
from tests.fleet.floors import box
from tests.fleet.made_up import NOW, fleets, queues, wants
from tests.simulated import World

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
thorough = settings(quick, max_examples=150)  # where a fault shows only on a full fleet


def run_some(nodes: list[NodeView], queue: list[Waiting], limits: dict[str, Account] | None = None) -> World:
    """A world in which half of the queue has begun already."""
    world = World(nodes, lambda job: job.timeout_s, limits=limits or {})
    world.submit(*queue[: len(queue) // 2])
    world.tick(NOW)
    world.submit(*queue[len(queue) // 2 :])
    world.promised.clear()  # who comes later may go before
    return world


def check_nothing_is_held_twice(world: World) -> None:
    """No GPU by two, no cpu beyond its slots, nobody beside who has it alone."""
    gpus = Counter(gpu for lease in world.leases.values() for seat in lease.seats for gpu in seat.gpu_ids)
    assert [gpu for gpu, holders in gpus.items() if holders > 1] == []
    seats = [seat for lease in world.leases.values() for seat in lease.seats]
    for node in world.nodes:
        here = [seat for seat in seats if seat.node_id == node.id]
        assert node.cpu is not None
        if any(seat.exclusive for seat in here):
            assert len(here) == 1
        assert sum(seat.slots for seat in here if not seat.exclusive) <= node.cpu.slots


def suits(seat: Seat, needs: Needs, nodes: list[NodeView]) -> bool:
    """The seat is what was asked for."""
    node = next(each for each in nodes if each.id == seat.node_id)
    cards = [gpu for gpu in node.gpus if gpu.id in seat.gpu_ids]
    right = all(gpu.arch.startswith(needs.gpu_arch or "") for gpu in cards)
    right &= all(gpu.vendor == needs.gpu_vendor for gpu in cards if needs.gpu_vendor)
    right &= all(gpu.driver == needs.gpu_driver for gpu in cards if needs.gpu_driver)
    right &= all(gpu.memory_bytes >= needs.gpu_memory_bytes for gpu in cards)
    right &= len(cards) >= needs.gpus if needs.whole_node else len(cards) == needs.gpus
    right &= seat.exclusive or not (needs.whole_node or needs.alone == "node")
    keys = {label.partition("=")[0] for label in node.labels}
    right &= node.labels >= set(needs.labels) and not (node.labels | keys) & set(needs.anti_labels)
    right &= TRUSTS.index(node.trust) <= TRUSTS.index(needs.trust or "tainted")
    return right and needs.rack in (None, node.rack)


@quick
@given(fleets(), queues())
def test_no_gpu_and_no_slot_is_given_twice(nodes: list[NodeView], queue: list[Waiting]) -> None:
    world = run_some(nodes, queue)
    for now in (NOW + 30.0, NOW + 60.0, NOW + 700.0):
        world.tick(now)
        check_nothing_is_held_twice(world)


@quick
@given(fleets(), queues(least=6))
def test_gangs_are_whole_and_have_what_they_asked_for(nodes: list[NodeView], queue: list[Waiting]) -> None:
    world = run_some(nodes, queue)
    for now in (NOW + 30.0, NOW + 700.0, NOW + 3700.0):
        world.tick(now)
        for lease in world.leases.values():
            needs = lease.job.needs
            assert len({seat.node_id for seat in lease.seats}) == needs.ranks == len(lease.seats)
            assert all(suits(seat, needs, nodes) for seat in lease.seats)


@quick
@given(fleets(), queues(least=8, most=30), st.integers(0, 6), st.integers(0, 6), st.floats(0.0, 3.0))
def test_quotas_are_held(
    nodes: list[NodeView], queue: list[Waiting], of_a: int, of_b: int, hours: float
) -> None:
    limits = {
        "a": Account("a", max_gpus=of_a),
        "b": Account("b", max_gpus=of_b),
        "c": Account("c", gpu_s_left=hours * 3600.0),
    }
    world = run_some(nodes, queue, limits)
    now = NOW + 30.0
    while now < NOW + 20_000.0:
        world.tick(now)
        held = Counter[str]()
        for lease in world.leases.values():
            held[lease.job.tenant] += lease.gpus
        assert held["a"] <= of_a
        assert held["b"] <= of_b
        assert world.gpu_s("c") <= hours * 3600.0
        now = min(world.next_end(), now + 3600.0)


@quick
@given(fleets(), queues(tenants=("a",)))
def test_backfill_delays_nobody_whose_start_is_planned(nodes: list[NodeView], queue: list[Waiting]) -> None:
    """Everything runs for all of its timeout, the worst that can be; whoever was told a start has it by then."""
    world = run_some(nodes, queue)
    now = NOW + 20.0
    for _ in range(4 * len(queue) + 4):
        world.tick(now)
        if world.next_end() == float("inf"):
            break
        now = world.next_end()
    late = {
        job: (world.started.get(job), start)
        for job, start in world.promised.items()
        if world.started.get(job, float("inf")) > start + 1.0
    }
    assert late == {}


@quick
@given(fleets(), queues())
def test_whatever_fits_starts_in_the_end_gangs_beside_gangs_too(
    nodes: list[NodeView], queue: list[Waiting]
) -> None:
    world = run_some(nodes, queue)
    now = NOW + 20.0
    for _ in range(4 * len(queue) + 4):
        world.tick(now)
        now = min(world.next_end(), now + 7200.0)
    able = [job.id for job in queue if sum(not misfits(job.needs, node) for node in nodes) >= job.needs.ranks]
    assert sorted(world.started) == sorted(able)


@given(st.integers(LOWEST, HIGHEST), st.floats(0, SHARE_POINTS), st.floats(0, 1e6))
def test_after_the_bound_a_job_goes_before_everything_new(
    priority: int, penalty: float, more_s: float
) -> None:
    waited = Waiting(1, 1, Needs(JobKind.NOOP), priority=LOWEST, asked_at=NOW - bound_s() - more_s)
    fresh = Waiting(2, 1, Needs(JobKind.NOOP), priority=priority, asked_at=NOW)
    assert score(waited, SHARE_POINTS, NOW) >= score(fresh, 0.0, NOW) - 1e-6
    assert penalty <= SHARE_POINTS


def test_nothing_starves_beyond_the_bound() -> None:
    """The lowest gang of the tenant that has had most, against an endless stream of the highest single jobs."""
    nodes = [box(number, gpus=2) for number in range(1, 4)]
    limits = {"big": Account("big", used_gpu_s=1e7), "small": Account("small")}
    world = World(nodes, lambda job: job.timeout_s, limits=limits)
    world.accounts = {name: replace(each) for name, each in limits.items()}
    gang = Waiting(
        1,
        1,
        Needs(JobKind.NOOP, gpus=2, ranks=3),
        priority=LOWEST,
        asked_at=NOW,
        queued_at=NOW,
        tenant="big",
        timeout_s=3600.0,
    )
    world.submit(gang)
    timeout, step = 1800.0, 300.0  # six at a time: just what the fleet can do
    for tick in range(int((bound_s() + 3 * timeout) / step)):
        now = NOW + tick * step
        world.submit(
            Waiting(
                tick + 10,
                1,
                Needs(JobKind.NOOP, gpus=1),
                HIGHEST,
                now,
                now,
                tenant="small",
                timeout_s=timeout,
            )
        )
        world.tick(now)
        if 1 in world.started:
            break
    assert world.started[1] - NOW <= bound_s() + 2 * timeout + step
    assert world.started[1] - NOW > 3600.0  # the stream did go before it for long: the bound was needed


@quick
@given(fleets(), wants(kinds=(JobKind.NOOP,)), queues(most=6))
def test_why_names_a_requirement_without_which_the_job_starts(
    nodes: list[NodeView], needs: Needs, queue: list[Waiting]
) -> None:
    job = Waiting(99, 1, needs, asked_at=NOW, queued_at=NOW, tenant="a", timeout_s=600.0)
    why = explain(job, queue, nodes, NOW)
    placed, _ = place([*queue, job], nodes, NOW)
    assert why.would_start == (99 in {each.job_id for each in placed})
    check_remedies(why, job, queue, nodes)
    idle = explain(job, [], nodes, NOW)
    assert idle.would_start or any(remedy.at_once for remedy in idle.remedies), idle


@quick
@given(fleets(), wants(kinds=(JobKind.NOOP,)), queues(most=12), st.sets(st.integers(0, 600), max_size=8))
def test_why_is_right_on_a_fleet_that_is_busy_and_of_jobs_that_have_failed(
    nodes: list[NodeView], needs: Needs, queue: list[Waiting], failed_on: set[int]
) -> None:
    world = run_some(nodes, queue)
    job = Waiting(
        99,
        1,
        needs,
        asked_at=NOW,
        queued_at=NOW,
        tenant="a",
        timeout_s=3600.0,
        avoid=frozenset(failed_on & {1, 2}),
        avoid_gpus=frozenset(failed_on),
    )
    now = NOW + 30.0
    seen, others = world.views(now), list(world.waiting.values())
    why = explain(job, others, seen, now)
    placed, _ = place([*others, job], seen, now)
    assert why.would_start == (99 in {each.job_id for each in placed})
    check_remedies(why, job, others, seen, now)


def failed(nodes: list[NodeView], needs: Needs, seed: int) -> Waiting:
    """A job that has failed on some of the nodes and of their GPUs; on half of these fleets on most of them."""
    dice = Random(seed)
    odds = dice.choice([0.2, 0.8])
    gpus = frozenset(gpu.id for node in nodes for gpu in node.gpus if dice.random() < odds)
    here = frozenset(node.id for node in nodes if dice.random() < odds)
    return Waiting(
        99,
        1,
        needs,
        asked_at=NOW,
        queued_at=NOW,
        tenant="a",
        timeout_s=3600.0,
        avoid=here,
        avoid_gpus=gpus,
    )


@thorough
@given(fleets(), wants(kinds=(JobKind.NOOP,)), queues(most=8), st.booleans(), st.integers(0, 2**40))
def test_why_remembers_which_nodes_and_gpus_have_failed_a_job(
    nodes: list[NodeView], needs: Needs, queue: list[Waiting], on_cpus: bool, seed: int
) -> None:
    """What it says is what the planner does, and there is no node on which nothing would keep the job."""
    if on_cpus:
        needs = replace(needs, gpus=0, whole_node=False, slots=2)
    world = run_some(nodes, queue)
    now = NOW + 30.0
    seen, others = world.views(now), list(world.waiting.values())
    job = failed(nodes, needs, seed)
    why = explain(job, others, seen, now)
    placed, _ = place([*others, job], seen, now)
    assert why.would_start == (job.id in {each.job_id for each in placed})
    check_remedies(why, job, others, seen, now)
    if not why.would_start and not why.quota:
        told = {name for group in why.groups for name in group.nodes}
        assert len([node for node in nodes if node.name not in told]) < needs.ranks


@thorough
@given(fleets(most=3), wants(kinds=(JobKind.NOOP,)), st.booleans(), st.integers(0, 2**40))
def test_a_job_is_tried_again_elsewhere_where_there_is_such_a_place_and_else_where_it_failed(
    nodes: list[NodeView], needs: Needs, whole: bool, seed: int
) -> None:
    """On an idle fleet. A whole node that has a GPU which failed the job is none of those other places."""
    needs = replace(needs, whole_node=whole)
    job = failed(nodes, needs, seed)
    fitting = [node for node in nodes if not misfits(needs, node)]
    placed, _ = place([job], nodes, NOW)
    assert bool(placed) == (len(fitting) >= needs.ranks)
    if not placed:
        return
    held = {gpu for seat in placed[0].seats for gpu in seat.gpu_ids}
    left = [[gpu for gpu in suitable(needs, node) if gpu.id not in job.avoid_gpus] for node in fitting]
    wanted = [len(suitable(needs, node)) if needs.whole_node else needs.gpus for node in fitting]
    spared = sum(len(have) >= want for have, want in zip(left, wanted, strict=True))
    assert not held & job.avoid_gpus or spared < needs.ranks
    if not needs.gpus and not needs.whole_node:
        elsewhere = [node for node in fitting if node.id not in job.avoid]
        on = {seat.node_id for seat in placed[0].seats}
        assert not on & job.avoid or len(elsewhere) < needs.ranks


def check_remedies(
    why: Why, job: Waiting, queue: list[Waiting], nodes: list[NodeView], now: float = NOW
) -> None:
    """Without what each remedy names, the planner places the job."""
    if why.would_start:
        assert why.remedies == ()
        return
    assert why.groups
    for remedy in why.remedies:
        if remedy.at_once:
            lifted = job.needs
            for name in remedy.lift:
                lifted = lifted if name == "timeout_s" else lifted.lifted(name)
            lighter = replace(job, needs=lifted, timeout_s=remedy.timeout_s or job.timeout_s)
            placed, _ = place([*queue, lighter], nodes, now)
            assert job.id in {each.job_id for each in placed}, remedy


def test_why_names_a_shorter_timeout_where_that_would_do() -> None:
    kept = replace(box(1, gpus=1), windows=(Window(NOW + 1800.0, NOW + 9000.0),))
    job = Waiting(1, 1, Needs(JobKind.NOOP, gpus=1), tenant="a", timeout_s=3600.0)
    (remedy,) = explain(job, [], [kept], NOW).remedies
    assert (remedy.lift, remedy.timeout_s) == (("timeout_s",), 1800.0)
    spent = {"a": Account("a", gpu_s_left=1000.0, promised_gpu_s=400.0)}
    why = explain(job, [], [box(1, gpus=1)], NOW, spent)
    assert why.quota.endswith("and this job 1")
    assert [(each.lift, each.timeout_s) for each in why.remedies] == [
        (("quota",), None),
        (("timeout_s",), 600.0),
        (("gpus",), None),
    ]


def test_why_names_that_a_job_wants_to_be_alone() -> None:
    node = box(1, gpus=2)
    cpu = replace(node.devices[0], shared_held=1, ends=((NOW + 9e4, 1),))
    busy = replace(node, devices=(cpu, *node.devices[1:]))
    for name, wanted in {"exclusive": {"alone": "node"}, "whole_node": {"whole_node": True}}.items():
        job = Waiting(1, 1, Needs(JobKind.NOOP, gpus=1, **wanted), timeout_s=60.0)  # type: ignore[arg-type]
        assert (name,) in [each.lift for each in explain(job, [], [busy], NOW).remedies]


def test_a_whole_node_counts_by_the_gpus_that_it_has() -> None:
    job = Waiting(1, 1, Needs(JobKind.NOOP, whole_node=True), tenant="a", timeout_s=60.0)
    few = {"a": Account("a", max_gpus=2)}
    placed, (delay,) = place([job], [box(1, gpus=4)], NOW, few)
    assert placed == []
    assert delay.reason == "quota: tenant a holds 0 of 2 GPUs, and it would hold 4 or more"
    (small,), _ = place([job], [box(1, gpus=4), box(2, gpus=2)], NOW, few)
    assert small.node_id == 2


def test_why_names_the_quota_when_that_is_what_keeps_it() -> None:
    held = {"a": Account("a", max_gpus=2, held_gpus=2)}
    job = Waiting(1, 1, Needs(JobKind.NOOP, gpus=1), tenant="a", timeout_s=60.0)
    why = explain(job, [], [box(1, gpus=4)], NOW, held)
    assert why.quota == "quota: tenant a holds 2 of 2 GPUs"
    assert why.remedies[0].lift == ("quota",)
    assert why.remedies[0].at_once


@quick
@given(fleets(), queues(), st.sampled_from([30.0, 900.0]))
def test_nothing_of_others_runs_into_a_reservation_or_maintenance(
    nodes: list[NodeView], queue: list[Waiting], begins_in: float
) -> None:
    windows = (Window(NOW + begins_in, NOW + 5000.0, "a"), Window(NOW + 6000.0, NOW + 9000.0))
    kept = [replace(node, windows=windows) for node in nodes[:1]] + nodes[1:]
    by_id = {job.id: job for job in queue}
    for placement in decide(queue, kept, NOW).placements:
        job = by_id[placement.job_id]
        if nodes[0].id in {seat.node_id for seat in placement.seats}:
            assert job.tenant == "a" or NOW + job.timeout_s <= windows[0].start
            assert NOW + job.timeout_s <= windows[1].start


def urgent(nodes: list[NodeView], running: list[Running], priority: int = 50) -> Decisions:
    """What is decided on a job that needs a whole box of four GPUs."""
    job = Waiting(9, 1, Needs(JobKind.NOOP, gpus=4), priority, NOW, NOW - 10.0, timeout_s=3600.0)
    return decide([job], nodes, NOW, running=running)


@quick
@given(st.lists(st.tuples(st.booleans(), st.integers(-10, 60)), min_size=4, max_size=4), st.integers(-5, 55))
def test_only_preemptible_jobs_of_a_lower_priority_make_way_and_only_when_it_helps(
    cards: list[tuple[bool, int]], priority: int
) -> None:
    node = box(1, gpus=4)
    held = tuple(
        replace(each, exclusive_held=True, free_at=NOW + 9e4)
        if each.kind == "gpu"
        else replace(each, shared_held=4, ends=((NOW + 9e4, 1),) * 4)
        for each in node.devices
    )
    running = [
        Running(number, 1, "a", low, can, NOW - 50.0, NOW + 9e4, (Seat(1, 100, False, (101 + number,)),))
        for number, (can, low) in enumerate(cards)
    ]
    made = urgent([replace(node, devices=held)], running, priority)
    way = {each.job_id for each in made.preemptions}
    able = {each.job_id for each in running if each.preemptible and each.priority < priority}
    assert way == (able if len(able) == 4 else set())
