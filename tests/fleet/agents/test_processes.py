"""Processes by identity."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from fleet.agents.processes import MARKER, Process, alive, descendants, identify, kill, leftovers, send
from tests.fleet.agents.conftest import until

PAUSE = [sys.executable, "-c", "import signal; signal.pause()"]


def test_a_process_is_known_by_its_start_not_by_its_pid_alone() -> None:
    own = identify(os.getpid())
    assert alive(own)
    assert not alive(Process(own.pid, own.started + 1))
    assert not send(Process(own.pid, own.started + 1), signal.SIGKILL)


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(PAUSE)
    process = identify(child.pid)
    assert send(process, signal.SIGKILL)
    until(lambda: not alive(process))
    child.wait()
    assert not send(process, signal.SIGKILL)


def test_a_process_may_call_itself_what_it_likes() -> None:
    name = "import ctypes, signal; ctypes.CDLL(None).prctl(15, b'\\xf6) Z\\n', 0, 0, 0); signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", name])
    until(lambda: b"\xf6" in Path(f"/proc/{child.pid}/stat").read_bytes())
    assert alive(identify(child.pid))
    assert child.pid in descendants(os.getpid())
    child.kill()
    child.wait()


def test_descendants_and_the_marked_are_found() -> None:
    family = f"/nowhere/{os.getpid()}/"
    child = subprocess.Popen(PAUSE, env=dict(os.environ) | {MARKER: f"{family}7-3"}, start_new_session=True)
    until(lambda: leftovers(family, set()) == [child.pid])
    assert child.pid in descendants(os.getpid())
    assert leftovers(family, {os.getpid()}) == []
    assert leftovers(family, {child.pid}) == []
    assert leftovers("/elsewhere/", set()) == []
    kill([child.pid, 2**22 - 1], signal.SIGKILL)
    child.wait()
