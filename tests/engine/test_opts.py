"""engine.opts: schedules survive JSON, and bad ones are refused naming the entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidGraph
from engine.opts import Opt, OptKind, RangeType, schedule_from_json, schedule_hash, schedule_to_json

SCHEDULE = (
    Opt(OptKind.SPLIT, "r0", 0, 64, RangeType.LOOP),
    Opt(OptKind.UPCAST, "out", 0, 8),
    Opt(OptKind.VEC, "out", 1, 16),
    Opt(OptKind.REORDER, "out", 0, 2),
)


def test_a_schedule_survives_its_json() -> None:
    assert schedule_from_json(json.loads(json.dumps(schedule_to_json(SCHEDULE)))) == SCHEDULE
    assert schedule_from_json([]) == ()


def test_the_hash_depends_on_the_order_of_the_opts() -> None:
    assert schedule_hash(SCHEDULE) != schedule_hash(SCHEDULE[::-1])
    assert len(schedule_hash(())) == 64


def test_the_hash_of_a_known_schedule_never_changes() -> None:
    assert schedule_hash(SCHEDULE) == "db131473c7172bf8af3203d0fb5ccbed18d38f4185b68233bbbebab79f4f11f7"


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "SPLIT",
        ["SPLIT", "out", 0, 4],
        ["FUSE", "out", 0, 4, None],
        [3, "out", 0, 4, None],
        ["SPLIT", "in", 0, 4, None],
        ["SPLIT", "r", 0, 4, None],
        ["SPLIT", "r9²", 0, 4, None],
        ["SPLIT", "r٣", 0, 4, None],
        ["SPLIT", "r0\n", 0, 4, None],
        ["SPLIT", 0, 0, 4, None],
        ["SPLIT", "out", -1, 4, None],
        ["SPLIT", "out", 0, 4.0, None],
        ["SPLIT", "out", 0, True, None],
        ["SPLIT", "out", 0, 1 << 21, None],
        ["SPLIT", "out", 0, 4, "GLOBAL"],
    ],
)
def test_a_bad_opt_is_refused_naming_its_place(entry: Any) -> None:
    with pytest.raises(InvalidGraph, match=r"schedule\[1\]"):
        schedule_from_json([["VEC", "out", 0, 4, None], entry])


@pytest.mark.parametrize("document", [None, {}, "[]", [["VEC", "out", 0, 4, None]] * 65])
def test_a_schedule_is_a_short_list(document: Any) -> None:
    with pytest.raises(InvalidGraph, match="schedule"):
        schedule_from_json(document)


def test_an_opt_reads_as_a_person_would_write_it() -> None:
    assert str(SCHEDULE[0]) == "SPLIT[LOOP](r0.0, 64)"


@pytest.mark.parametrize(
    "entry", [[["SPLIT"], "out", 0, 4, None], ["SPLIT", "out", 0, 4, ["LOOP"]], [{}, 0, 0, 0, 0]]
)
def test_an_entry_of_the_wrong_type_is_refused_by_name(entry: list[object]) -> None:
    with pytest.raises(InvalidGraph, match=r"schedule\[0\]"):
        schedule_from_json([entry])


def test_the_docs_name_every_opt() -> None:
    text = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")
    listed = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert listed == set(OptKind)
