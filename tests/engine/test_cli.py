"""The engine's verbs as a user types them."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from engine import cli
from engine.cli import app
from engine.compare import Row
from engine.options import OPTIONS
from engine.outcome import Outcome
from engine.programs import program
from engine.serialize import kernel_hash
from engine.toolchain import detect
from tests.whole import until

ROOT = Path(__file__).parents[2]


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_the_target_is_shown_as_json_and_as_a_table() -> None:
    found = json.loads(invoke("target", "--json").stdout)
    assert found["id"] == detect().id
    assert found["arch"] == detect().arch
    assert "compiler" in invoke("target").stdout


def test_options_are_listed_with_what_they_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "3")
    found = {row["variable"]: row for row in json.loads(invoke("options", "--json").stdout)}
    assert set(found) == {option.variable for option in OPTIONS}
    assert (found["THREADS"]["now"], found["THREADS"]["default"]) == ("3", "all cores")
    assert "THREADS" in invoke("options").stdout
    assert found["BEAM"]["now"] == found["BEAM"]["default"] == "the model's pick"
    monkeypatch.setenv("BEAM", "0")
    assert {row["now"] for row in json.loads(invoke("options", "--json").stdout)} >= {
        "0.0",
        "3",
        "CPU",
        "none",
    }
    monkeypatch.setenv("THREADS", "many")
    refused = invoke("options")
    assert refused.exit_code == 2
    assert "THREADS='many': set a whole number from 1 to 1024, or unset it" in refused.output


def test_devices_are_listed_and_the_chosen_one_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "null")
    found = {row["name"]: row for row in json.loads(invoke("devices", "--json").stdout)}
    assert [name for name, row in found.items() if row["chosen"]] == ["NULL"]
    assert "C" in found["CPU"]["parts"]
    assert "not part of this build" in found["CUDA"]["help"]
    assert "INTERP" in invoke("devices").stdout


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "engine"],
        [sys.executable, "-c", "from fleet.command import main; main()", "engine"],
    ],
)
def test_the_engines_verbs_are_reached_by_both_commands(command: list[str]) -> None:
    done = subprocess.run(
        [*command, "devices", "--json"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"CPU", "INTERP", "NULL"} <= {row["name"] for row in json.loads(done.stdout)}


@pytest.mark.slow
def test_a_search_prints_verified_rows_and_keeps_what_it_measured(tmp_path: Path) -> None:
    words = ("search", "gemm", "64,48,32", "--budget", "0.3", "--per-round", "4", "--time", "0.02", "--json")
    result = invoke(*words, "--store", str(tmp_path))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["name"] for row in found["rows"]] == ["none", "model", "tuned", "numpy"]
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


@pytest.mark.parametrize("threads", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_machine_without_a_c_compiler_searches(tmp_path: Path, threads: str) -> None:
    words = ["search", "gemm", "64,48,32", "--budget", "0.3", "--per-round", "4", "--time", "0.02", "--json"]
    environ = {"PATH": str(tmp_path / "nothing"), "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "engine", *words, "--threads", threads],
        capture_output=True,
        text=True,
        env=environ,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {row["outcome"] for row in found["rows"]} == {"ok"}
    assert found["best"]["outcome"] == "ok"
    assert ("no C compiler found" in done.stderr) == (threads != "1")


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


@pytest.mark.parametrize("verb", ["run", "search"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("GPU", "no such device; there are CPU, "),
        ("CUDA", "NVIDIA GPUs: that backend is not part of this build; there are CPU, "),
        ("INTERP", "kernels can be timed on CPU only"),
        ("null:c", "kernels can be timed on CPU only"),
    ],
)
def test_a_device_that_cannot_be_timed_is_refused_saying_what_there_is(
    verb: str, given: str, message: str, tmp_path: Path
) -> None:
    words = [verb, "copy", "8", "--store", str(tmp_path)]
    result = CliRunner().invoke(app, words, env={"DEV": given})
    assert result.exit_code == 2
    assert f"DEV={given!r}: {message}" in result.output


def test_the_device_is_named_in_any_case(tmp_path: Path) -> None:
    words = ["run", "copy", "8", "--time", "0.01", "--store", str(tmp_path)]
    assert CliRunner().invoke(app, words, env={"DEV": "cpu:c"}).exit_code == 0


def test_a_row_that_fails_is_an_exit_status(tmp_path: Path) -> None:
    illegal = json.dumps([["VEC", "out", 0, 8, None]])
    result = invoke("run", "gemm", "16,16,16", "--schedule", illegal, "--store", str(tmp_path))
    assert result.exit_code == 1
    assert "illegal" in result.stdout


@pytest.mark.parametrize("verb", ["run", "search"])
def test_a_store_that_cannot_be_is_refused_naming_the_option(verb: str) -> None:
    result = invoke(verb, "copy", "8", "--store", "/dev/null/x")
    assert result.exit_code == 2
    assert "--store: nothing can be kept in /dev/null/x: Not a directory" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["search", "run"])
def test_a_store_that_takes_no_more_is_said_in_a_line_naming_the_option(verb: str, tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    journal = tmp_path / "journal" / f"{kernel_hash(program('gemm', [8, 8, 8]))}.jsonl"
    journal.symlink_to("/proc/version")  # can be read; a write fails
    result = invoke(verb, "gemm", "8,8,8", "--store", str(tmp_path), "--time", "0.01")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert f"error: --store: nothing more can be kept in {tmp_path}: " in result.output


@pytest.mark.slow
def test_an_interrupted_search_says_what_it_leaves(tmp_path: Path) -> None:
    words = ["search", "gemm", "64,64,64", "--budget", "600", "--patience", "1000", "--store", str(tmp_path)]
    searching = subprocess.Popen(
        [sys.executable, "-m", "engine", *words],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    best = tmp_path / "best"
    with searching:
        until(lambda: any(best.glob("*.json")) or searching.poll() is not None, "a stored best", 90.0)
        searching.send_signal(signal.SIGINT)
        _, said = searching.communicate(timeout=60)
    assert searching.returncode == 130
    assert re.search(r"interrupted: the best, .*s, is stored", said)


def test_a_table_fits_80_columns_and_reasons_stand_below_it_whole() -> None:
    why = "float32 is not " + "so long a reason that it cannot stand in a column " * 4 + "[at all]"
    rows = [
        Row("heuristic", Outcome.OK, 1, max_error=1.2e-10, tolerance=1.2e-10, best_s=123e-6, median_s=123e-6),
        Row("none", Outcome.OK, 1, max_error=0.0, tolerance=1.2e-10, best_s=9e-3, median_s=9e-3),
        Row("schedule", Outcome.COMPILE_FAILED, 1, detail=why),
        Row("numpy", Outcome.OUT_OF_BOUNDS, 1, detail="wrote past the end"),
    ]
    file = io.StringIO()
    console = Console(width=80, file=file)
    cli._print_rows(console, program("gemm", [1024, 1024, 1024]), rows)
    table, _, reasons = file.getvalue().partition("schedule: ")
    assert max(map(len, table.splitlines())) <= 80
    for word in (
        "heuristic",
        "unoptimized",
        "compile_failed",
        "out_of_bounds",
        "GFLOP/s",
        "error",
        "tolerance",
    ):
        assert word in table
    assert reasons.startswith(why)
    assert "NumPy: wrote past the end" in reasons
