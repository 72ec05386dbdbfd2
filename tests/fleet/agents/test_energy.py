"""Power and energy from plain numbers."""

from __future__ import annotations

from math import pi, sin

import pytest

from fleet.agents.energy import Meter, Ring, Spent, spent


def swinging(ring: Ring, seconds: float, begun: float = 1000.0) -> float:
    """600 W ± 300 W at 1 Hz, sampled at 10 Hz; returns when it ended."""
    ticks = int(seconds * 10)
    for tick in range(ticks + 1):
        ring.push(begun + tick / 10, 600 + 300 * sin(2 * pi * tick / 10))
    return begun + ticks / 10


def metered(watts: float, seconds: float, scale: float = 1.0, base: float = 5e6) -> tuple[Meter, float]:
    """A meter that was fed steady power and a counter which says `scale` times the energy; and when it ended."""
    meter = Meter()
    for tick in range(int(seconds * 10) + 1):
        at = 1000 + tick / 10
        meter.ring.push(at, watts)
        if tick % 10 == 0:
            meter.push_counter(at, base + scale * watts * tick / 10)
    return meter, 1000 + seconds


def test_a_window_sees_swings_that_a_scrape_does_not() -> None:
    ring = Ring()
    now = swinging(ring, 60)
    found = ring.window(now, 15)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(315, abs=1), pytest.approx(885, abs=1))
    assert found.mean == pytest.approx(600, abs=3)
    assert found.deviation == pytest.approx(300 / 2**0.5, rel=0.02)
    assert 150 <= found.samples <= 170


def test_a_window_forgets_and_is_none_without_samples() -> None:
    ring = Ring()
    assert ring.window(0, 15) is None
    ring.push(100, 1000)
    ring.push(130, 50)
    found = ring.window(130, 15)
    assert found is not None
    assert found.high == 50
    assert ring.window(200, 15) is None


def test_power_integrates_to_energy_and_not_over_gaps() -> None:
    ring = Ring()
    assert swinging(ring, 30) == 1030
    assert ring.joules == pytest.approx(600 * 30, rel=1e-3)
    ring.push(1100, 600)
    assert ring.joules == pytest.approx(600 * 30, rel=1e-3)
    ring.push(1101, 400)
    assert ring.joules == pytest.approx(600 * 30 + 500, rel=1e-3)


def test_energy_at_a_moment_lies_between_the_samples() -> None:
    ring = Ring()
    for second in range(5):
        ring.push(second, 100)
    assert ring.at(2.5) == pytest.approx(250)
    assert ring.at(4.5) == pytest.approx(450), "power goes on as it was, for a moment"
    assert ring.at(9) == pytest.approx(600)
    assert ring.at(-10) is None


def test_a_counter_that_agrees_with_power_is_believed() -> None:
    meter, _ = metered(700, 15)
    assert meter.believed
    assert meter.total() == (5e6 + 700 * 15, "counter")


def test_a_counter_that_does_not_is_not() -> None:
    meter, _ = metered(700, 15, scale=1.2)
    assert meter.believed is False
    total = meter.total()
    assert total is not None
    assert (round(total[0]), total[1]) == (700 * 15, "integrated")


def test_until_both_are_compared_nothing_is_said() -> None:
    meter, _ = metered(700, 5)
    assert (meter.believed, meter.total()) == (None, None)
    idle, _ = metered(0.5, 15)
    assert idle.believed is None, "half a watt says nothing about a counter"


def test_a_device_without_a_counter_is_integrated() -> None:
    ring = Meter()
    ring.ring.push(0, 100)
    ring.ring.push(1, 100)
    assert ring.total() == (100, "integrated")
    assert Meter().total() is None


@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_an_attempt_costs_what_lies_between_its_marks(scale: float) -> None:
    meter, _ = metered(700, 40, scale)
    found = spent(meter.mark(1012.34), meter.mark(1033.57), meter.believed)
    assert found is not None
    assert found.joules == pytest.approx(700 * 21.23, rel=0.02)
    assert found.method == ("counter" if scale == 1.0 else "integrated")


def test_a_processor_has_a_counter_alone() -> None:
    meter = Meter()
    for second in range(10):
        meter.push_counter(second, second * 50)
    assert spent(meter.mark(2.5), meter.mark(7.25), meter.believed) == Spent(237.5, "counter", 0.0)


def test_energy_that_was_not_watched_is_not_made_up() -> None:
    meter, _ = metered(700, 15)
    assert spent(meter.mark(10), meter.mark(1010), meter.believed) is None


def test_between_rare_readings_of_a_counter_power_goes_on() -> None:
    meter, end = metered(700, 15)
    for tick in range(1, 301):
        meter.ring.push(end + tick / 10, 500)
    assert meter.total() == (pytest.approx(5e6 + 700 * 15 + 500 * 30, abs=30), "counter")
    marked = meter.mark(end + 20)
    assert marked.counter == pytest.approx(5e6 + 700 * 15 + 500 * 20, abs=30)


def test_a_total_that_ran_ahead_of_its_counter_stands_still_and_never_falls() -> None:
    """A falling series is a counter that began anew to Prometheus, which would add all of it again."""
    meter, end = metered(700, 15)
    at, said = end, []
    for tick in range(1, 1201):
        at = end + tick / 10
        meter.ring.push(at, 707)  # power reads one percent high
        if tick % 600 == 0:
            meter.push_counter(at, 5e6 + 700 * (at - 1000))
        total = meter.total()
        assert total is not None
        said.append(total[0])
    assert said == sorted(said)
    assert said[-1] == pytest.approx(5e6 + 700 * (at - 1000), abs=0.01 * 700 * 60 + 1)


def test_a_counter_that_was_set_back_is_told_as_it_is() -> None:
    meter, end = metered(700, 15)
    assert meter.total() == (5e6 + 700 * 15, "counter")
    meter.push_counter(end + 1, 3.0)
    assert meter.total() == (pytest.approx(3.0, abs=701), "counter")


def test_a_counter_is_not_compared_over_a_gap_in_the_power() -> None:
    meter = Meter()
    for tick in range(400):
        at = 1000 + tick / 10 + (30 if tick >= 50 else 0)  # for half a minute nobody could look
        meter.ring.push(at, 700)
        if tick % 50 == 0:
            meter.push_counter(at, 5e6 + 700 * (at - 1000))
    assert meter.believed


def test_a_driver_that_was_loaded_again_starts_its_counter_again() -> None:
    meter, end = metered(700, 15)
    begin = meter.mark(end)
    meter.push_counter(end + 1, 3.0)
    meter.ring.push(end + 1, 700)
    after = spent(begin, meter.mark(end + 1), meter.believed)
    assert after is not None
    assert after.method == "integrated"
    assert after.joules == pytest.approx(700)


def test_time_under_throttling_adds_up_while_it_is_watched() -> None:
    meter = Meter()
    for second, held in enumerate([False, True, True, False, True]):
        meter.throttled(second, held)
    assert meter.mark(4.5).held_s == 3.5, "as it was when last looked at"
    assert meter.mark(3.5).held_s == 2.5
    meter.throttled(100, True)
    assert meter.held_s == 3


def test_a_window_goes_on_for_as_long_as_nobody_listens() -> None:
    ring = Ring()
    ring.push(0, 900)
    ring.begin_outage(1)
    for second in range(1, 200):
        ring.push(second, 100 + second)
    found = ring.outage()
    assert found is not None
    assert (found.low, found.high, found.mean, found.samples) == (101, 299, 200, 199)
    assert ring.end_outage() == found
    assert ring.outage() is None
