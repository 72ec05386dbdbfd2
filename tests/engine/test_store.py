"""What was measured is kept, whole, and found again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.opts import Opt, OptKind, schedule_hash
from engine.outcome import Measured, Outcome
from engine.store import Store, source_hash

KERNEL, TARGET = "k" * 64, "t" * 64


def measured(amount: int = 4, time_s: float | None = 1e-3, outcome: Outcome = Outcome.OK) -> Measured:
    schedule = (Opt(OptKind.UPCAST, "out", 0, amount),)
    source = f"void kernel() {{ /* {amount} */ }}"
    return Measured(
        schedule,
        schedule_hash(schedule),
        outcome,
        time_s,
        (time_s,) if time_s else (),
        source_hash(source),
        source,
        1e-6,
        1e-5,
    )


def test_a_candidate_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    Store(tmp_path).add(KERNEL, TARGET, 1, measured())
    again = Store(tmp_path)
    assert again.get(KERNEL, TARGET, 1, measured().hash) == measured()
    assert list(again.candidates(KERNEL, TARGET, 1)) == [measured()]


def test_an_error_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(KERNEL, TARGET, 1, replace(measured(), outcome=Outcome.WRONG, max_error=float("inf")))
    found = store.get(KERNEL, TARGET, 1, measured().hash)
    assert found is not None
    assert found.max_error is None


def test_the_best_is_the_fastest_right_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.best(KERNEL, TARGET, 1) is None
    for candidate in (
        measured(2, 3e-3),
        measured(4, 1e-3),
        measured(6, 2e-3),
        measured(8, 1e-9, Outcome.WRONG),
        measured(3, None, Outcome.HUNG),
    ):
        store.add(KERNEL, TARGET, 1, candidate)
    assert store.best(KERNEL, TARGET, 1) == measured(4, 1e-3)
    assert len(list(store.candidates(KERNEL, TARGET, 1))) == 5


def test_kernels_targets_and_thread_counts_do_not_mix(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(KERNEL, TARGET, 1, measured())
    assert store.best(KERNEL, TARGET, 2) is None
    assert store.best(KERNEL, "u" * 64, 1) is None
    assert store.best("l" * 64, TARGET, 1) is None


def test_a_skipped_candidate_leaves_no_trace(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(KERNEL, TARGET, 1, replace(measured(), outcome=Outcome.SKIPPED))
    assert list(store.candidates(KERNEL, TARGET, 1)) == []


def test_equal_sources_are_kept_once_and_read_by_hash(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.add_source("int x;") == store.add_source("int x;") == source_hash("int x;")
    assert store.source(source_hash("int x;")) == "int x;"
    with pytest.raises(KeyError):
        store.source("0" * 64)


def test_a_record_that_cannot_be_read_counts_as_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(KERNEL, TARGET, 1, measured())
    (place,) = (tmp_path / "candidates").rglob("*.json")
    for text in ("{", "{}", json.dumps({**json.loads(place.read_text()), "outcome": "great"})):
        place.write_text(text)
        assert store.get(KERNEL, TARGET, 1, measured().hash) is None


def test_the_journal_names_what_was_in_flight(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.in_flight(KERNEL)
    for name in ("a", "b", "b", "c"):
        store.launch(KERNEL, name, "verify", {"shapes": [[1, 2]]})
    for name in ("a", "c"):
        store.landed(KERNEL, name, "verify", Outcome.OK)
    (journal,) = (tmp_path / "journal").iterdir()
    with journal.open("a") as file:
        file.write('{"event": "laun')
    assert Store(tmp_path).in_flight(KERNEL) == {("b", "verify"): 2}
    assert not Store(tmp_path).in_flight("l" * 64)


def test_a_phase_that_went_well_says_nothing_of_another(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for _ in range(2):
        store.launch(KERNEL, "a", "verify", {})
        store.landed(KERNEL, "a", "verify", Outcome.OK)
        store.launch(KERNEL, "a", "time", {})
    assert store.in_flight(KERNEL) == {("a", "time"): 2}


def test_what_somebody_ended_takes_back_one_launch(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.launch(KERNEL, "a", "time", {})  # it died with its process
    for _ in range(3):
        store.launch(KERNEL, "a", "time", {})
        store.aborted(KERNEL, "a", "time")
    assert store.in_flight(KERNEL) == {("a", "time"): 1}


def test_no_half_written_file_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(KERNEL, TARGET, 1, measured())
    store.repro(KERNEL, measured().hash, "int main(void) { return 0; }")
    assert not list(tmp_path.rglob("*.tmp"))
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_the_winner_of_a_race_is_the_best_although_another_was_faster_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    flattered = Measured((), "a" * 64, Outcome.OK, time_s=1.0)
    winner = Measured((), "b" * 64, Outcome.OK, time_s=2.0)
    store.add("kernel", "target", 1, flattered)
    store.choose("kernel", "target", 1, winner)
    assert store.best("kernel", "target", 1) == winner
