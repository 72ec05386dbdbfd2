"""The engine's verbs as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from engine.cli import app
from engine.target import detect


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_the_target_is_shown_as_json_and_as_a_table() -> None:
    found = json.loads(invoke("target", "--json").stdout)
    assert found["id"] == detect().id
    assert found["arch"] == detect().arch
    assert "compiler" in invoke("target").stdout


def test_a_search_prints_verified_rows_and_keeps_what_it_measured(tmp_path: Path) -> None:
    words = ("search", "gemm", "64,48,32", "--budget", "1", "--per-round", "4", "--json")
    result = invoke(*words, "--store", str(tmp_path))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["name"] for row in found["rows"]] == ["none", "heuristic", "tuned", "numpy"]
    assert {row["outcome"] for row in found["rows"]} == {"ok"}
    assert found["best"]["outcome"] == "ok"
    assert (tmp_path / "sources" / f"{found['best']['source_hash']}.c").exists()

    tuned = invoke(
        "run", "gemm", "64,48,32", "--schedule", "tuned", "--compare", "numpy", "--time", "0.01", "--json",
        "--store", str(tmp_path),
    )  # fmt: skip
    assert tuned.exit_code == 0, tuned.output
    rows = json.loads(tuned.stdout)
    assert [row["name"] for row in rows] == ["tuned", "numpy"]
    assert rows[0]["schedule"] == found["best"]["schedule"]


def test_a_schedule_can_be_given_as_json(tmp_path: Path) -> None:
    schedule = json.dumps([["UPCAST", "out", 0, 2, None]])
    result = invoke(
        "run", "copy", "40,30", "--schedule", schedule, "--time", "0.01", "--store", str(tmp_path)
    )
    assert result.exit_code == 0, result.output
    assert "ok" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "gemm", "64,48"), "gemm takes 3 sizes"),
        (("run", "gemm", "64x48x32"), "separated by commas"),
        (("run", "copy", "8", "--schedule", "fast"), "must be none, heuristic"),
        (("run", "copy", "8", "--schedule", '[["UPCAST"]]'), "schedule[0]"),
        (("run", "copy", "8", "--schedule", "tuned"), "run `search` first"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = invoke(*words, "--store", str(tmp_path))
    assert result.exit_code == 2
    assert message in result.output


def test_a_row_that_fails_is_an_exit_status(tmp_path: Path) -> None:
    illegal = json.dumps([["VEC", "out", 0, 8, None]])
    result = invoke("run", "gemm", "16,16,16", "--schedule", illegal, "--store", str(tmp_path))
    assert result.exit_code == 1
    assert "illegal" in result.stdout
