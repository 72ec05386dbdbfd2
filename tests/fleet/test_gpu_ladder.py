"""GPUs that are found at fault: they are reset, tested, and take work again after a burn-in that passed, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, events, gpus, jobs, nodes, usage
from fleet.agents.protocol import (
    NoopSpec,
    Outcome,
    ResetReport,
)
from fleet.blobs import Blobs
from fleet.errors import InvalidTransition, NotFound, NotPermitted
from fleet.gpu_steps import (
    FALLS,
    RESET_WITHIN_S,
    Blame,
    Burn,
    BurninView,
    Fail,
    GpuView,
    Pass,
    Reset,
    Step,
    steps,
)
from fleet.lifecycle import advance
from fleet.lifecycle_gpus import GPU, GpuEvent
from fleet.models import Device, Event, GpuLadder, Job, Lease, LeaseGpu, Node
from fleet.principals import Principal
from fleet.wishes import Requirements
from tests.fleet.acting import gpu_inventory
from tests.fleet.burning import XID, Box, World

Enroll = Callable[..., int]


@pytest.fixture
def world(
    sessions: sessionmaker[Session], blobs: Blobs, admin: Principal, enroll: Enroll, now: float
) -> World:
    return World(sessions, blobs, admin, Box(sessions, blobs, enroll("tiny1", gpu_inventory())), now)


def test_a_gpu_at_fault_is_reset_burnt_in_and_takes_work_again(world: World) -> None:
    world.observe(XID)
    world.tick()
    assert world.states() == {"gpu0": "ok", "gpu1": "suspect"}
    job = world.ask()
    world.tick()
    assert [spec.gpu for spec in world.agent.asked] == ["gpu1"]
    assert world.states()["gpu1"] == "resetting"
    assert "1 GPU in order" in world.job(job).reason
    world.agent.reset()
    world.tick()
    world.tick()
    assert world.states()["gpu1"] == "retest"
    assert world.job(job).state == "queued"
    assert world.agent.burn() == 1
    world.tick()
    world.tick()
    assert world.states() == {"gpu0": "ok", "gpu1": "ok"}
    world.tick()
    assert world.job(job).state == "running"


def test_nothing_is_reset_under_a_job_that_holds_the_gpu(world: World) -> None:
    job = world.ask(seconds=600.0)
    world.tick()
    world.observe(XID)
    for _ in range(5):
        world.tick()
    assert world.job(job).state == "running"
    assert world.states()["gpu1"] == "suspect"
    world.agent.work(world.now)
    for _ in range(3):
        world.tick()
    assert world.states()["gpu1"] == "resetting"


def test_a_burn_in_that_fails_quarantines_and_says_what_to_do(world: World) -> None:
    world.observe(XID)
    for _ in range(2):
        world.tick()
    world.agent.reset()
    for _ in range(2):
        world.tick()
    world.agent.burn(passed=False)
    for _ in range(2):
        world.tick()
    row = world.ladder("gpu1")
    assert row.state == "quarantined"
    assert "3 known answers are wrong" in row.detail
    assert "tinyfleet nodes retest" in row.detail


def test_a_reset_that_is_refused_quarantines_with_the_reason_and_an_operator_brings_it_back(
    world: World,
) -> None:
    world.observe(XID)
    for _ in range(2):
        world.tick()
    world.agent.reset(done=False, detail="nvidia-smi is not installed here")
    world.tick()
    assert world.states()["gpu1"] == "quarantined"
    assert "nvidia-smi is not installed here" in world.ladder("gpu1").detail
    world.observe()
    with world.sessions.begin() as session:
        gpus.retest(session, world.agent.node_id, "gpu1", world.admin, world.now)
    for _ in range(2):
        world.tick()
    world.agent.reset()
    for _ in range(2):
        world.tick()
    world.agent.burn()
    for _ in range(2):
        world.tick()
    assert world.states()["gpu1"] == "ok"


def test_a_node_that_never_answers_about_a_reset_ends_in_quarantine(world: World) -> None:
    world.observe(XID)
    for _ in range(2):
        world.tick()
    world.now += RESET_WITHIN_S
    world.tick()
    assert world.states()["gpu1"] == "quarantined"


def test_an_answer_to_an_older_asking_counts_for_nothing(world: World) -> None:
    world.observe(XID)
    for _ in range(2):
        world.tick()
    (spec,) = world.agent.asked
    old = ResetReport(gpu="gpu1", generation=spec.generation + 1, done=True)
    with world.sessions.begin() as session:
        node = nodes.get(session, world.agent.node_id)
        assert not gpus.heard(session, node, [old], world.now)
    assert world.states()["gpu1"] == "resetting"


def test_one_that_passes_while_the_fault_stands_does_not_come_back(world: World) -> None:
    world.observe(XID)
    for _ in range(2):
        world.tick()
    world.agent.reset()
    for _ in range(2):
        world.tick()
    world.observe(XID)
    world.agent.burn()
    for _ in range(2):
        world.tick()
    assert world.states()["gpu1"] == "quarantined"


def test_one_that_falls_too_often_is_reset_no_more(world: World) -> None:
    for fall in range(FALLS):
        world.observe(XID)
        for _ in range(2):
            world.tick()
        assert (world.states()["gpu1"] == "quarantined") == (fall == FALLS - 1)
        world.agent.reset()
        for _ in range(2):
            world.tick()
        world.observe()
        world.agent.burn()
        for _ in range(2):
            world.tick()
    assert world.states()["gpu1"] == "quarantined"
    assert f"at fault {FALLS} times" in world.ladder("gpu1").detail


def test_an_attempt_that_leaves_its_gpus_broken_blames_the_one_that_it_names(world: World) -> None:
    world.ask(seconds=600.0)
    world.tick()
    (attempt,) = world.agent.running
    world.agent.exit(attempt, Outcome.DEVICE_WEDGED, error="gpu0: 3 of 262144 known answers are wrong")
    world.tick()
    assert world.states()["gpu1"] == "ok"
    assert world.states()["gpu0"] in ("suspect", "resetting")


def test_an_agent_of_before_resets_is_not_asked_for_one(world: World) -> None:
    with world.sessions.begin() as session:
        nodes.get(session, world.agent.node_id).protocol = 2
    world.observe(XID)
    for _ in range(2):
        world.tick()
    assert world.states()["gpu1"] == "quarantined"
    assert "bring it up to date" in world.ladder("gpu1").detail


def test_only_operators_ask_for_a_retest_and_of_what_is_there(world: World) -> None:
    viewer = Principal("user", 9, "eve", "default", "viewer")
    with world.sessions() as session:
        with pytest.raises(NotPermitted):
            gpus.retest(session, world.agent.node_id, "gpu1", viewer, world.now)
        with pytest.raises(NotFound):
            gpus.retest(session, world.agent.node_id, "gpu7", world.admin, world.now)
    world.observe(XID)
    for _ in range(2):
        world.tick()
    with world.sessions() as session, pytest.raises(InvalidTransition):
        gpus.retest(session, world.agent.node_id, "gpu1", world.admin, world.now)


def test_usage_counts_the_time_that_a_gpu_was_out(world: World) -> None:
    world.observe(XID)
    world.tick()
    began = world.now
    world.observe()
    world.now += 100.0
    with db.reading(world.sessions) as reader:
        (found,) = usage.capacity(reader, world.now - 1000.0, world.now)
    assert found.quarantined_s == pytest.approx(world.now - began)


# ------------------------------------------------------------------------------------------ properties

DEEDS = ("fault", "calm", "job", "end", "wedge", "reset", "refuse", "pass", "fail", "retest", "tick", "tick")
NAMES = count(1)


@pytest.mark.slow
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(deeds=st.lists(st.sampled_from(DEEDS), min_size=15, max_size=30))
def test_no_gpu_is_leased_unless_it_is_ok_and_none_returns_without_a_burn_in(
    sessions: sessionmaker[Session],
    blobs: Blobs,
    admin: Principal,
    enroll: Enroll,
    now: float,
    deeds: list[str],
) -> None:
    node_id = enroll(f"random{next(NAMES)}", gpu_inventory())
    world = World(sessions, blobs, admin, Box(sessions, blobs, node_id), now)
    for deed in deeds:
        _do(world, deed)
        _check_leases(world)
    _check_returns(world)
    with sessions.begin() as session:  # out of the next example's way
        session.get_one(Node, node_id).state = "retired"
        session.execute(update(Job).values(state="cancelled"))


def _do(world: World, deed: str) -> None:
    match deed:
        case "fault":
            world.observe(XID)
        case "calm":
            world.observe()
        case "job":
            with world.sessions.begin() as session:
                wishes, spec = Requirements(gpus=1), NoopSpec(seconds=60.0)
                node = world.agent.node_id
                jobs.submit(
                    session, spec, principal=world.admin, now=world.now, node=node, requirements=wishes
                )
        case "end" | "wedge":
            mine = [each for each in world.agent.running.values() if each.spec.kind == "noop"]
            outcome = Outcome.SUCCEEDED if deed == "end" else Outcome.DEVICE_WEDGED
            for each in mine[:1]:
                world.agent.exit(each.attempt_id, outcome)
        case "reset" | "refuse":
            world.agent.reset(done=deed == "reset")
        case "pass" | "fail":
            world.agent.burn(deed == "pass")
        case "retest":
            with world.sessions.begin() as session:
                try:
                    gpus.retest(session, world.agent.node_id, "gpu1", world.admin, world.now)
                except InvalidTransition:
                    session.rollback()
    world.tick()


def _check_leases(world: World) -> None:
    """A lease that was given in this tick is on a GPU that is ok, or its own burn-in."""
    with db.reading(world.sessions) as reader:
        query = (
            select(Device.name, Job.kind, Job.id, GpuLadder)
            .join(LeaseGpu, LeaseGpu.device_id == Device.id)
            .join(Lease, Lease.id == LeaseGpu.lease_id)
            .join(Event, Event.subject == "attempt:" + Lease.attempt_id.cast(Event.subject.type))
            .join(Job, Job.id == Event.data["job"].as_integer())
            .outerjoin(GpuLadder, GpuLadder.id == Device.id)
        )
        fresh = query.where(Event.kind == "attempt.leased", Lease.granted_at == world.now)
        for name, kind, job_id, row in reader.execute(fresh.where(Device.node_id == world.agent.node_id)):
            own = kind == "burnin" and row is not None and row.state == "retest" and row.job_id == job_id
            assert own or gpus.standing(row)[0] == "ok", f"{name} was leased to a {kind}: {row.state}"


def _check_returns(world: World) -> None:
    """Before each return there is a burn-in of that GPU which succeeded after its last reset."""
    with db.reading(world.sessions) as reader:
        for device in nodes.devices(reader, world.agent.node_id):
            seen = reader.scalars(select(Event).where(Event.subject == f"gpu:{device.id}").order_by(Event.id))
            last = 0
            for event in seen:
                if event.kind == "gpu.ok":
                    done = select(Event.subject).where(
                        Event.kind == "job.succeeded", Event.id > last, Event.id < event.id
                    )
                    ids = [int(subject.partition(":")[2]) for subject in reader.scalars(done)]
                    specs = [reader.get_one(Job, job_id).spec for job_id in ids]
                    assert any(spec.get("gpu") == device.name for spec in specs)
                    assert event.data["from"] == "retest"
                last = event.id


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["fault", "calm", "done", "succeeded", "failed", "held", "free", "late"])))
def test_the_ladder_leads_to_ok_by_a_burn_in_that_passed_alone(said: list[str]) -> None:
    gpu = GpuView(1, 1, "gpu0", "ok", 0.0)
    now = 0.0
    for word in said:
        now += RESET_WITHIN_S + 1 if word == "late" else 1.0
        match word:
            case "fault" | "calm":
                gpu = replace(gpu, fault="XID 48" if word == "fault" else "")
            case "held" | "free":
                gpu = replace(gpu, held=word == "held")
            case "done" if gpu.state == "resetting":
                gpu = replace(gpu, state=str(advance(GPU, gpu.state, GpuEvent.DONE)))
            case "succeeded" | "failed" if gpu.burnin is not None:
                gpu = replace(gpu, burnin=BurninView(word))
        for step in steps([gpu], now):
            before = gpu
            gpu = taken(gpu, step, now)
            if isinstance(step, Reset):
                assert not before.held
            if gpu.state == "ok":
                assert before.state == "retest"
                assert before.burnin == BurninView("succeeded")
                assert not before.fault


def taken(gpu: GpuView, step: Step, now: float) -> GpuView:
    """The GPU after a step."""
    if isinstance(step, Burn):
        return replace(gpu, burnin=BurninView("queued"))
    event = {Blame: GpuEvent.BLAME, Reset: GpuEvent.RESET, Pass: GpuEvent.PASS, Fail: GpuEvent.FAIL}[
        type(step)
    ]
    after = str(advance(GPU, gpu.state, event))
    falls = (*gpu.falls, now) if isinstance(step, Blame) else gpu.falls
    return replace(gpu, state=after, state_at=now, falls=falls, burnin=None)


def test_events_tell_of_each_step_by_the_node(world: World) -> None:
    world.observe(XID)
    for _ in range(2):
        world.tick()
    with db.reading(world.sessions) as reader:
        kinds = [each.kind for each in events.page(reader, limit=500, subject=f"node:{world.agent.node_id}")]
    assert [kind for kind in kinds if "gpu" in kind] == ["node.gpu_suspect", "node.gpu_resetting"]
