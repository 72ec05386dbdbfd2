"""The ring of events: what it keeps, what it overwrites, and who may write it at once."""

from __future__ import annotations

import ctypes
import gc
import threading
from time import perf_counter_ns

import numpy as np
import pytest

from engine import dtype as dt
from engine.build import param
from engine.kernel import Kernel
from engine.profile import Recording
from engine.runtime.ring import Ring, Subject, living

KERNEL = Kernel(param(0, (4,), dt.float32))


def test_a_full_ring_keeps_the_newest() -> None:
    ring = Ring(8)
    for event in range(1, 21):
        ring.add(7, event * 10, event * 10 + 5)
    assert ring.last == 20
    assert ring.read(1, 21).tolist() == [[t, 7, t * 10, t * 10 + 5] for t in range(13, 21)]
    assert ring.read(1, 13).tolist() == []


def test_a_run_that_has_ended_lasts_until_now() -> None:
    ring = Ring(8)
    start = perf_counter_ns()
    ring.ended(7, start)
    ((ticket, number, begun, ended),) = ring.read(1, 2).tolist()
    assert (ticket, number, begun) == (1, 7, start)
    assert start <= ended <= perf_counter_ns()


def test_a_ring_has_a_power_of_two_of_rows() -> None:
    with pytest.raises(ValueError, match="power of two"):
        Ring(12)


def test_a_list_of_kernels_is_added_at_once_and_round_the_end() -> None:
    ring, alike = Ring(8), Ring(8)
    for _ in range(4):
        times = np.arange(10).reshape(5, 2)
        ring.extend([1, 2, 3, 4, 5], times)
        for number, (start, end) in zip((1, 2, 3, 4, 5), times.tolist(), strict=True):
            alike.add(number, start, end)
    ring.extend([], [])
    assert ring.records.tolist() == alike.records.tolist()


def test_a_list_longer_than_the_ring_leaves_its_end() -> None:
    ring = Ring(4)
    ring.extend(list(range(10)), [(n, n) for n in range(10)])
    assert ring.read(1, 11)[:, 1].tolist() == [6, 7, 8, 9]


def test_whoever_claims_rows_writes_them_in_memory() -> None:
    ring = Ring(8)
    ring.extend([1] * 6, [(0, 1)] * 6)
    first = ring.claim(4)
    assert first == 7
    for ticket in range(first, first + 4):
        row = (ctypes.c_int64 * 4).from_address(ring.address + 32 * (ticket & 7))
        row[1:4] = [9, ticket, ticket + 1]
        row[0] = ticket
    assert ring.read(7, 11).tolist() == [[t, 9, t, t + 1] for t in range(7, 11)]


def test_threads_write_at_once_and_nothing_is_lost() -> None:
    ring, each = Ring(1 << 15), 4000
    ready = threading.Barrier(4)

    def write(number: int) -> None:
        ready.wait()
        for event in range(each):
            ring.add(number, event, event + 1)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = ring.read(1, 4 * each + 1)
    assert len(found) == 4 * each
    for number in range(4):
        assert found[found[:, 1] == number, 2].tolist() == list(range(each))


def test_a_recording_has_every_event_of_a_ring_that_is_too_small() -> None:
    ring, subject = Ring(64), Subject(KERNEL)
    ring.add(subject.number, 0, 1)  # before it begins
    recording = Recording(ring)
    for event in range(1000):
        ring.add(subject.number, event, event + 2)
    recording.end()
    ring.add(subject.number, 0, 1)  # and after it has ended
    assert [event.start_ns for event in recording] == list(range(1000))
    assert (len(recording), recording.lost) == (1000, 0)
    (runs,) = recording.kernels()
    assert runs.subject is subject
    assert (len(runs.events), runs.total_s, runs.median_s) == (1000, 2000 / 1e9, 2 / 1e9)


def test_threads_fill_a_small_ring_and_the_recording_has_all_or_counts_them() -> None:
    ring, subject = Ring(256), Subject(KERNEL)
    recording = Recording(ring)

    def write() -> None:
        for event in range(2000):
            ring.add(subject.number, event, event + 1)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recording.end()
    assert len(recording) + recording.lost == 8000
    assert len(list(recording)) == len(recording)


def test_what_was_overwritten_unread_is_counted() -> None:
    ring, subject = Ring(16), Subject(KERNEL)
    recording = Recording(ring)
    ring.extend([subject.number] * 100, [(n, n + 1) for n in range(100)])
    recording.end()
    assert [event.start_ns for event in recording] == list(range(84, 100))
    assert recording.lost == 84


def test_events_that_are_still_being_written_are_waited_for() -> None:
    ring, subject = Ring(16), Subject(KERNEL)
    recording = Recording(ring)
    first = ring.claim(2)
    ring.add(subject.number, 3, 4)
    ring.records[(first + 1) & 15] = (first + 1, subject.number, 2, 3)
    assert list(recording) == []
    ring.records[first & 15] = (first, subject.number, 1, 2)
    assert [event.start_ns for event in recording] == [1, 2, 3]
    recording.end()
    assert (len(recording), recording.lost) == (3, 0)


def test_a_subject_nobody_keeps_is_forgotten_but_for_recordings() -> None:
    ring = Ring(16)
    gone, held = Subject(KERNEL), Subject(KERNEL)
    numbers = [gone.number, held.number]
    del gone
    gc.collect()
    assert numbers[0] not in {subject.number for subject in living()}
    recording = Recording(ring)
    del held
    gc.collect()
    ring.add(numbers[1], 0, 1)
    recording.end()
    assert [event.subject.number for event in recording] == [numbers[1]]


def test_overlapping_runs_are_busy_once() -> None:
    ring, subject = Ring(16), Subject(KERNEL)
    recording = Recording(ring)
    for start, end in ((10, 20), (12, 15), (18, 30), (40, 50)):
        ring.add(subject.number, start, end)
    recording.end()
    assert recording.busy_s == 30 / 1e9
    assert [event.idle_ns for event in recording] == [0, 0, 0, 10]
