"""What was measured is kept, whole, and found again."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import durable
from engine.opts import Opt, OptKind, schedule_hash
from engine.outcome import Measured, Outcome
from engine.store import Store, _write, source_hash

KERNEL, TARGET = "k" * 64, "t" * 64
ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize("damage", [b"", b"{", b"{}", b"[]", b"null", b"\xff", b'{"outcome": "ok"}'])
def test_a_damaged_record_is_set_aside_with_a_message_and_never_used(tmp_path: Path, damage: bytes) -> None:
    told: list[str] = []
    store = Store(tmp_path, told.append)
    store.add(KERNEL, TARGET, 1, measured())
    (place,) = (tmp_path / "candidates").rglob("*.json")
    place.write_bytes(damage)
    assert store.get(KERNEL, TARGET, 1, measured().hash) is None
    assert store.get(KERNEL, TARGET, 1, measured().hash) is None
    (line,) = told
    assert str(place) in line
    (kept,) = (tmp_path / "aside").iterdir()
    assert kept.read_bytes() == damage
    store.add(KERNEL, TARGET, 1, measured())
    assert store.get(KERNEL, TARGET, 1, measured().hash) == measured()


def test_a_time_that_was_changed_on_the_disk_is_not_believed(tmp_path: Path) -> None:
    store = Store(tmp_path, lambda _: None)
    store.add(KERNEL, TARGET, 1, measured(time_s=1e-3))
    (place,) = (tmp_path / "candidates").rglob("*.json")
    place.write_text(place.read_text().replace("0.001", "0.0001"))
    assert store.get(KERNEL, TARGET, 1, measured().hash) is None


def test_a_whole_record_of_another_version_counts_as_missing_and_stays(tmp_path: Path) -> None:
    told: list[str] = []
    store = Store(tmp_path, told.append)
    store.add(KERNEL, TARGET, 1, measured())
    (place,) = (tmp_path / "candidates").rglob("*.json")
    _write(place, {**measured().to_json(), "outcome": "great"})
    assert store.get(KERNEL, TARGET, 1, measured().hash) is None
    assert place.exists()
    assert told == []


def test_a_damaged_best_is_found_again_among_the_candidates(tmp_path: Path) -> None:
    store = Store(tmp_path, lambda _: None)
    for amount, time_s in ((2, 3e-3), (4, 1e-3), (6, 2e-3)):
        store.add(KERNEL, TARGET, 1, measured(amount, time_s))
    (place,) = (tmp_path / "best").iterdir()
    place.write_bytes(place.read_bytes()[:-20])
    assert Store(tmp_path, lambda _: None).best(KERNEL, TARGET, 1) == measured(4, 1e-3)
    assert place.exists()


def test_a_record_without_its_source_is_still_a_result(tmp_path: Path) -> None:
    told: list[str] = []
    store = Store(tmp_path, told.append)
    store.add(KERNEL, TARGET, 1, measured())
    (source,) = (tmp_path / "sources").iterdir()
    source.write_text("torn")
    assert store.get(KERNEL, TARGET, 1, measured().hash) == replace(measured(), source="")
    assert len(told) == 1
    store.add_source(measured().source)
    assert store.get(KERNEL, TARGET, 1, measured().hash) == measured()


def test_a_source_written_over_a_torn_one_is_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    name = store.add_source("int x;")
    (tmp_path / "sources" / f"{name}.c").write_text("in")
    store.add_source("int x;")
    assert store.source(name) == "int x;"


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_files_cut_at_any_byte_give_the_truth_or_nothing(tmp_path: Path, step: int) -> None:
    """What a power cut may leave of a file: every beginning of it."""
    store = Store(tmp_path, lambda _: None)
    store.add(KERNEL, TARGET, 1, measured())
    store.launch(KERNEL, measured().hash, "verify", {})
    store.landed(KERNEL, measured().hash, "verify", Outcome.OK)
    store.launch(KERNEL, measured().hash, "time", {})
    whole = {place: place.read_bytes() for place in tmp_path.rglob("*") if place.is_file()}
    assert len(whole) == 4
    for damaged, content in whole.items():
        for length in range(0, len(content), step):
            for place, bytes_ in whole.items():
                place.write_bytes(bytes_ if place != damaged else bytes_[:length])
            found = Store(tmp_path, lambda _: None)
            assert found.get(KERNEL, TARGET, 1, measured().hash) in (None, measured(), NO_SOURCE)
            assert found.best(KERNEL, TARGET, 1) in (None, measured(), NO_SOURCE)
            assert set(found.in_flight(KERNEL)) <= {(measured().hash, "verify"), (measured().hash, "time")}
            assert found.torn_lines <= 1


NO_SOURCE = replace(measured(), source="")

WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from engine.store import Store
from tests.engine.test_store import KERNEL, TARGET, measured

store, number = Store(Path(sys.argv[1])), int(sys.argv[2])
while True:
    number += 1
    found = measured(number, 1 / number)
    store.launch(KERNEL, found.hash, "verify", {"number": number})
    store.add(KERNEL, TARGET, 1, found)
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_again_and_again_loses_nothing_it_had_kept(tmp_path: Path) -> None:
    number = 0
    told: list[str] = []
    for round_ in range(6):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
            assert writer.stdout
            for _ in range(3 + round_):  # killed while it writes the one behind
                number = int(writer.stdout.readline())
            writer.kill()
        store = Store(tmp_path, told.append)
        for kept in range(1, number + 1):
            assert store.get(KERNEL, TARGET, 1, measured(kept).hash) == measured(kept, 1 / kept)
        best = store.best(KERNEL, TARGET, 1)
        assert best is not None
        assert (best.time_s or 1) <= 1 / number
        assert sum(store.in_flight(KERNEL).values()) >= number
    assert [line for line in told if "torn" not in line] == []


def test_a_line_behind_a_torn_one_is_read(tmp_path: Path) -> None:
    told: list[str] = []
    store = Store(tmp_path, told.append)
    store.launch(KERNEL, "a", "verify", {})
    (journal,) = (tmp_path / "journal").iterdir()
    with journal.open("a") as file:
        file.write('{"event": "laun')
    store.launch(KERNEL, "b", "verify", {})
    assert store.in_flight(KERNEL) == {("a", "verify"): 1, ("b", "verify"): 1}
    assert store.torn_lines == 1
    assert len(told) == 1


def test_a_killer_is_known_by_its_code(tmp_path: Path) -> None:
    store = Store(tmp_path)
    killed = replace(measured(outcome=Outcome.CRASHED), object_hash="a")
    store.add(KERNEL, TARGET, 1, killed)
    again = replace(measured(), object_hash="a")
    assert store.killer(KERNEL, TARGET, 1, again) == killed
    assert store.killer(KERNEL, TARGET, 1, replace(again, object_hash="b")) is None  # it was repaired
    assert store.killer(KERNEL, TARGET, 2, again) is None
    store.add(KERNEL, TARGET, 1, again)
    assert store.killer(KERNEL, TARGET, 1, again) is None


def test_names_and_contents_are_synced_before_and_after_a_file_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def noted(name: str) -> None:
        real = getattr(os, name)

        def call(*words: Any) -> Any:
            folder = name == "fsync" and stat.S_ISDIR(os.fstat(words[0]).st_mode)
            calls.append("sync folder" if folder else name)
            return real(*words)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "replace"):
        noted(name)
    durable.write(tmp_path / "record", b"1")
    assert calls == ["fsync", "replace", "sync folder"]
    calls.clear()
    for _ in range(2):
        durable.append(tmp_path / "journal", b"1")
    assert calls == ["fsync", "sync folder", "fsync"]
    calls.clear()
    durable.write(tmp_path / "new" / "er" / "record", b"1")
    assert calls == ["sync folder", "sync folder", "fsync", "replace", "sync folder"]


def test_the_journal_names_what_was_in_flight(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.in_flight(KERNEL)
    for name in ("a", "b", "b", "c"):
        store.launch(KERNEL, name, "verify", {"shapes": [[1, 2]]})
    for name in ("a", "c"):
        store.landed(KERNEL, name, "verify", Outcome.OK)
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
