"""The long soak of schedules goes on where it stopped, counts nothing twice, and shows what is wrong."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from rich.console import Console

from tests.engine.scheduling import KERNELS
from tests.schedule_soak import BATCH, State, batches, report, soak, soaked

pytestmark = pytest.mark.slow


def test_a_state_is_read_again_without_its_torn_last_line(tmp_path: Path) -> None:
    state = State.at(tmp_path / "state.jsonl")
    state.add({"kernel": "a", "batch": 0, "used": {"VEC": 3}, "faults": []})
    with state.path.open("a") as file:
        file.write('{"kernel": "a", "batch": 1, "us')
    again = State.at(state.path)
    assert again.done == state.done
    again.add({"kernel": "a", "batch": 1, "used": {}, "faults": []})
    assert State.at(state.path).done == again.done


def test_a_state_of_other_sources_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    path.write_text(json.dumps({"sources": "others"}) + "\n")
    with pytest.raises(SystemExit, match=r"state\.jsonl is of other sources"):
        State.at(path)


def test_batches_take_all_kernels_in_turns() -> None:
    found = batches()
    assert [next(found) for _ in range(len(KERNELS))] == [(name, 0) for name in KERNELS]
    assert next(found) == (next(iter(KERNELS)), 1)


def test_a_batch_is_the_same_each_time_and_right() -> None:
    first = soak(next(batches()))
    assert first["faults"] == []
    assert first == soak(next(batches()))


def test_processes_that_have_done_enough_are_replaced() -> None:
    wanted = list(islice(batches(), 3))
    found = list(soaked(wanted, processes=1, each=1))
    assert {(each["kernel"], each["batch"]) for each in found} == set(wanted)


def test_a_report_counts_actions_and_fails_for_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    right = {"kernel": "a", "batch": 0, "used": {"VEC": 3}, "faults": []}
    wrong = {"kernel": "b", "batch": 0, "used": {"VEC": 1, "PAD": 2}, "faults": ["b: all of it"]}
    assert report([right], Console()) == 0
    assert report([right, wrong], Console()) == 1
    printed = capsys.readouterr().out
    assert f"{2 * BATCH} schedules of 2 kernels, 1 wrong" in printed
    assert "4 VEC" in printed
    assert "WRONG b: all of it" in printed
