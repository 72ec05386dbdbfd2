"""The loop: every interval, at once when hinted, and on after a failure."""

from __future__ import annotations

import logging
import threading

import pytest

from fleet.loop import Loop


class Ticks:
    """Counts ticks and lets a test wait for the next one."""

    def __init__(self, failing: bool = False) -> None:
        self.semaphore = threading.Semaphore(0)
        self.failing = failing

    def __call__(self) -> None:
        self.semaphore.release()
        if self.failing:
            raise ValueError("this tick fails")

    def came(self) -> bool:
        """True when one came within ten seconds."""
        return self.semaphore.acquire(timeout=10.0)


def test_a_hint_brings_a_tick_long_before_the_interval() -> None:
    ticks = Ticks()
    loop = Loop(ticks, interval_s=3600.0)
    loop.start()
    assert ticks.came()
    loop.hint()
    assert ticks.came()
    loop.stop()


def test_ticks_come_by_themselves() -> None:
    ticks = Ticks()
    loop = Loop(ticks, interval_s=0.01)
    loop.start()
    assert all(ticks.came() for _ in range(3))
    loop.stop()


def test_a_failing_tick_is_logged_and_the_next_one_follows(caplog: pytest.LogCaptureFixture) -> None:
    ticks = Ticks(failing=True)
    loop = Loop(ticks, interval_s=0.01)
    with caplog.at_level(logging.ERROR):
        loop.start()
        assert all(ticks.came() for _ in range(2))
        loop.stop()
    assert "this tick fails" in caplog.text


def test_stopping_a_loop_that_never_began_is_fine() -> None:
    Loop(Ticks(), interval_s=1.0).stop()
