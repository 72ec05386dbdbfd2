"""Nodes are cordoned by themselves for a reason, and let in again when it is gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from fleet import cordons, db, nodes
from fleet.blobs import Blobs
from fleet.health import Action, Finding, Verdict
from fleet.principals import Principal
from tests.fleet.acting import gpu_inventory
from tests.fleet.burning import XID, Box, World

Enroll = Callable[..., int]


@pytest.fixture
def world(
    sessions: sessionmaker[Session], blobs: Blobs, admin: Principal, enroll: Enroll, now: float
) -> World:
    return World(sessions, blobs, admin, Box(sessions, blobs, enroll("tiny1", gpu_inventory())), now)


def test_a_clock_that_is_far_off_cordons_until_it_is_right(world: World) -> None:
    off = Finding("node", Verdict.SUSPECT, "its clock is +20.0 s off", Action.SYNC_CLOCK)
    world.observe(off)
    world.tick()
    job = world.ask(0)
    world.tick()
    assert "is cordoned by itself: clock: its clock is +20.0 s off" in world.job(job).reason
    world.observe()
    world.tick()
    world.tick()
    assert world.job(job).state == "running"


def test_a_gpu_that_wants_a_reboot_or_half_of_them_out_cordon_the_node(world: World) -> None:
    world.observe(Finding("gpu1", Verdict.FAILED, "the GPU does not answer", Action.REBOOT))
    world.tick()
    with db.reading(world.sessions) as reader:
        (row,) = cordons.of(reader, world.agent.node_id)
        assert row.reason == "gpu1: the GPU does not answer; reboot the node"
    world.observe()
    world.tick()
    with db.reading(world.sessions) as reader:
        assert not cordons.of(reader, world.agent.node_id)
    world.observe(XID, Finding("gpu0", Verdict.SUSPECT, "XID 62", Action.RESET))
    world.tick()
    world.tick()
    with db.reading(world.sessions) as reader:
        (row,) = cordons.of(reader, world.agent.node_id)
        assert row.reason == "2 of 2 GPUs are not in order: gpu0, gpu1"


def test_an_agent_that_begins_anew_too_often_is_cordoned_until_it_is_steady(world: World) -> None:
    for number in range(6):
        world.agent.boot_id = f"boot-{number + 2}"
        world.agent.sequence = 0
        world.tick()
    with db.reading(world.sessions) as reader:
        (row,) = cordons.of(reader, world.agent.node_id)
        assert row.kind == "flapping"
    world.now += 1000.0
    world.tick()
    with db.reading(world.sessions) as reader:
        assert cordons.of(reader, world.agent.node_id)
    world.agent.sync(world.now + 1000.0)
    world.now += 1000.0
    world.tick()
    with db.reading(world.sessions) as reader:
        assert not cordons.of(reader, world.agent.node_id)


def test_an_operators_uncordon_ends_what_nobody_asked_for(world: World) -> None:
    for number in range(6):
        world.agent.boot_id, world.agent.sequence = f"boot-{number + 2}", 0
        world.tick()
    with world.sessions.begin() as session:
        nodes.uncordon(session, world.agent.node_id, world.admin, world.now)
        assert not cordons.of(session, world.agent.node_id)
