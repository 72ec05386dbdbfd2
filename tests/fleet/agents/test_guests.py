"""Guests, commands that run inside another attempt, at the edges of its life: while it begins, and when they are to end."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.agents.attempts import State
from fleet.agents.processes import descendants, kill
from fleet.agents.protocol import Outcome
from tests.fleet.agents.conftest import Node, gone, until
from tests.whole import command_line

pytestmark = pytest.mark.slow

# Six chains of processes, deaf to SIGTERM, that fork and end all the time: whoever is looked up is gone when it is killed.
CHAINS = """#!/usr/bin/env python3
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for number in range(6):
    if os.fork() == 0:
        break
else:
    while True:
        time.sleep(60)
end = time.monotonic() + 40
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    if time.monotonic() % 0.2 < 0.05:
        open(f"beat-{number}", "w").close()
"""
LOOKING = "grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status; id -u; sleep 0.2"


def submit(node: Node, script: str, **more: Any) -> int:
    return node.far_end.submit({"kind": "command", "script": script, **more})


def inside(host: int) -> dict[str, Any]:
    return {"inside": {"attempt_id": host, "fence": 1}}


@pytest.fixture
def host(node: Node) -> Iterator[int]:
    """An attempt that sleeps, for as long as the test lasts."""
    attempt = submit(node, "echo ready; exec sleep 600")
    node.far_end.wait(lambda: node.far_end.stream(attempt, "o") == b"ready\n", "the host is ready")
    yield attempt
    assert node.far_end.exit(attempt) is None
    node.far_end.withdraw(attempt)
    assert node.far_end.wait_exit(attempt).outcome is Outcome.CANCELLED


def test_guests_that_come_while_their_host_begins_have_no_rights(node: Node) -> None:
    """bubblewrap mounts first, with rights in a namespace of its own: who comes then waits until it has none."""
    for _ in range(5):
        attempt = submit(node, "sleep 600")
        await_task(node, attempt)
        guests = [submit(node, LOOKING, **inside(attempt)) for _ in range(3)]
        for guest in guests:
            ended = node.far_end.wait_exit(guest)
            assert ended.outcome is Outcome.SUCCEEDED, ended
            *rights, user = node.far_end.stream(guest, "o").decode().split()
            assert set(rights) == {"CapPrm:", "CapEff:", "CapAmb:", "0" * 16}
            assert user != "0"
        node.far_end.withdraw(attempt)
        node.far_end.wait_exit(attempt)


def test_guests_that_come_while_their_host_ends_end_with_it(node: Node) -> None:
    for number in range(6):
        attempt = submit(node, f"sleep 0.{number + 2}")
        await_task(node, attempt)
        guests = [submit(node, "exec sleep 600", **inside(attempt)) for _ in range(4)]
        for guest in guests:
            ended = node.far_end.wait_exit(guest)
            assert ended.outcome is Outcome.FAILED, ended
            assert re.search("has ended|does not run here any more", ended.error), ended


def test_a_command_that_begins_after_it_was_cancelled_is_told_so(node: Node) -> None:
    """Else it would run for all of its grace. However early it is, its end is not the grace's."""
    script = "trap 'echo told; exit 0' TERM; while :; do sleep 0.05; done"
    for number in range(20):
        attempt = submit(node, script, grace_s=120.0)  # far beyond what the test waits for
        await_task(node, attempt)
        time.sleep(number * 0.004)
        node.far_end.withdraw(attempt)
        assert node.far_end.wait_exit(attempt).outcome is Outcome.CANCELLED


@pytest.mark.parametrize("timeout_s", [60.0, 2.0], ids=["cancelled", "timed out"])
def test_of_a_guest_that_forks_all_the_time_nothing_lives_on(node: Node, host: int, timeout_s: float) -> None:
    work = node.agent.directory(host) / "work"
    guest = node.far_end.submit({"kind": "command", "script": CHAINS, **inside(host)}, timeout_s=timeout_s)
    until(lambda: len(list(work.glob("beat-*"))) == 6)
    if timeout_s > 2:
        node.far_end.withdraw(guest)
    expected = Outcome.CANCELLED if timeout_s > 2 else Outcome.TIMED_OUT
    assert node.far_end.wait_exit(guest).outcome is expected
    for beat in work.glob("beat-*"):
        beat.unlink()
    time.sleep(1)
    assert list(work.glob("beat-*")) == []


@pytest.mark.parametrize("spoils", ["rm -rf tmp/.shm", "rm -rf tmp; ln -s nowhere tmp", "chmod 0 ."])
def test_what_its_host_spoils_is_not_the_nodes_fault(node: Node, spoils: str) -> None:
    attempt = submit(node, f"{spoils}; echo ready; exec sleep 600")
    node.far_end.wait(lambda: node.far_end.stream(attempt, "o") == b"ready\n", "the host is ready")
    guest = node.far_end.submit({"kind": "command", "argv": ["true"], **inside(attempt)})
    assert node.far_end.wait_exit(guest).outcome in (Outcome.SUCCEEDED, Outcome.FAILED)
    node.far_end.withdraw(attempt)
    node.far_end.wait_exit(attempt)


def test_a_guest_whose_task_is_killed_leaves_nothing_to_its_host(node: Node, host: int) -> None:
    """As by the kernel for want of memory: its reaper is told by the kernel, and ends what is below it first."""
    guest = submit(node, "setsid sleep 600 & sleep 600", **inside(host))
    until(lambda: len(sleepers(node, guest)) == 2)
    pids = sleepers(node, guest)
    task = node.agent.attempt(guest).task
    assert task is not None
    kill([task.pid], signal.SIGKILL)
    assert node.far_end.wait_exit(guest).outcome is Outcome.FAILED
    until(lambda: all(map(gone, pids)))


def await_task(node: Node, attempt: int) -> None:
    """Until its supervisor has forked its task."""
    directory = node.agent.directory(attempt)
    until(lambda: (state := State.load(directory)) is not None and state.phase != "starting")


def sleepers(node: Node, guest: int) -> list[int]:
    """Pids of what sleeps below a guest's supervisor."""
    state = State.load(node.agent.directory(guest))
    if state is None or state.supervisor is None:
        return []
    return [pid for pid in descendants(state.supervisor.pid) if command_line(pid).startswith("sleep 600")]
