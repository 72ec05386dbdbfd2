"""Collectors of probes that work, fail, and never return."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fleet.agents.collecting import Collector
from fleet.agents.probes.amdgpu import AmdGpu
from fleet.agents.samples import Sample, labels
from tests.fleet.agents.conftest import until
from tests.fleet.agents.probes import box
from tests.fleet.agents.probes.reading import value


class Probed:
    """A probe of which each part does what it was told."""

    name, interval_s, timeout_s, disturbs = "probed", 10.0, 2.0, False

    def __init__(self, **parts: Callable[[], float]) -> None:
        self.by_part = parts

    def parts(self) -> Sequence[str]:
        return tuple(self.by_part)

    def read(self, part: str) -> list[Sample]:
        return [Sample("fleet_gpu_power_watts", labels(gpu=part), self.by_part[part]())]


def broken() -> float:
    raise OSError("no answer")


def shown(collector: Collector) -> dict[str, float]:
    return {sample.labels: sample.value for sample in collector.samples()}


def success(collector: Collector) -> float:
    return value(collector.about(), "collector_success", collector="probed")


@contextmanager
def running(collector: Collector) -> Iterator[Collector]:
    """Started; whatever waits in it must have been released by the test."""
    before = threading.active_count()
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()
        until(lambda: threading.active_count() == before)


def test_a_failing_part_costs_its_own_series_and_is_said() -> None:
    now = [0.0]
    collector = Collector(Probed(a=lambda: 5.0, b=broken), clock=lambda: now[0], wall=lambda: 1700.0)
    collector.round()
    assert shown(collector) == {'gpu="a"': 5}
    assert collector.problems() == {"b": "no answer"}
    assert success(collector) == 0
    assert not [each for each in collector.about() if "last_success" in each.name]


def test_the_last_good_value_outlives_a_miss_and_not_many() -> None:
    now, answers = [0.0], [lambda: 5.0, broken]
    collector = Collector(Probed(a=lambda: answers[0]()), clock=lambda: now[0], wall=lambda: 1700 + now[0])
    collector.round()
    answers.reverse()
    now[0] = 10.0
    collector.round()
    assert shown(collector) == {'gpu="a"': 5}
    assert success(collector) == 0
    assert value(collector.about(), "collector_last_success_timestamp_seconds") == 1700
    now[0] = 32.1
    assert shown(collector) == {}, "three intervals and the time a read may take"


def test_a_machine_without_the_kind_shows_nothing_of_it() -> None:
    collector = Collector(Probed())
    collector.round()
    assert (collector.samples(), collector.about()) == ([], [])


def test_a_probe_that_finds_nothing_because_it_fails_says_why() -> None:
    class Failing(Probed):
        def parts(self) -> Sequence[str]:
            raise OSError("the kernel driver is not loaded")

    collector = Collector(Failing())
    collector.round()
    assert collector.problems() == {"": "the kernel driver is not loaded"}


def test_while_something_is_timed_a_probe_that_disturbs_is_left_alone_and_its_values_stay() -> None:
    paused, now, count = threading.Event(), [0.0], [0]

    class Disturbing(Probed):
        disturbs = True

    def counted() -> float:
        count[0] += 1
        return 5.0

    collector = Collector(Disturbing(a=counted), paused, clock=lambda: now[0])
    collector.round()
    paused.set()
    now[0] = 600.0
    with running(collector):
        assert shown(collector) == {'gpu="a"': 5}
    assert count[0] == 1
    paused.clear()
    assert shown(collector) == {}


def test_a_read_that_never_returns_costs_its_own_series(tmp_path: Path) -> None:
    released, now = threading.Event(), [0.0]

    def hanging() -> float:
        released.wait()
        return 1.0

    collector = Collector(Probed(a=hanging, b=lambda: 5.0), clock=lambda: now[0])
    with running(collector):
        until(lambda: collector._reader.busy)
        collector.watch()
        assert shown(collector) == {}
        now[0] = 2.1
        collector.watch()
        until(lambda: shown(collector) == {'gpu="b"': 5})
        assert collector.problems() == {"a": "hangs"}
        assert value(collector.about(), "collector_timeouts_total") == 1
        assert success(collector) == 0
        now[0] = 60.0
        collector.watch()
        assert collector.timeouts == 1, "one that hangs is counted once"
        released.set()
        until(lambda: not collector.problems())


def test_a_device_file_that_blocks_costs_its_own_series(tmp_path: Path) -> None:
    """A FIFO that nobody writes to, in the place of a card's file: open() does not return."""
    cards = [box.radeon(tmp_path, index) for index in range(3)]
    collector = Collector(AmdGpu(tmp_path))
    collector.round()
    busy = cards[1] / "gpu_busy_percent"
    busy.unlink()
    os.mkfifo(busy)

    class Impatient(AmdGpu):
        timeout_s = 0.0

    collector = Collector(Impatient(tmp_path))
    with running(collector):
        until(lambda: collector._reader.part == "card1")
        until(lambda: not (collector.watch(), collector.timeouts < 1)[1] and "card1" in collector.problems())
        until(lambda: {each.labels[:7] for each in collector.samples()} >= {'gpu="0"', 'gpu="2"'})
        assert not [each for each in collector.samples() if each.labels.startswith('gpu="1"')]
        os.close(os.open(busy, os.O_WRONLY))
