"""`profile script.py`: the script runs as it would alone, and its kernels are told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from engine.cli import app
from engine.options import current
from engine.profile.peaks import keep, load
from engine.profile.report import seconds
from engine.profile.script import run_script
from engine.profile.verb import calibrated as calibrated_peaks
from engine.target import processor_target
from tests.engine.profile.test_pictures import PEAKS

WORK = """
import sys
from engine.tensor import Tensor
print("given", sys.argv[1:])
a = Tensor.ones(64, 64).contiguous().realize()
for _ in range(3):
    (a @ a).realize()
(a + 1).realize()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "script.py"


@pytest.fixture
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this test's own with peaks in it, for one thread; kernels run on one."""
    monkeypatch.setenv("TINYFLEET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("THREADS", "1")
    keep(current().cache / "peaks", processor_target(), {1: PEAKS})


def profile(*words: str) -> Result:
    return CliRunner().invoke(app, ["profile", *words])


def test_a_script_has_its_arguments_its_folder_and_its_name(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (script.parent / "beside_it.py").write_text("number = 5\n")
    script.write_text("import sys\nimport beside_it\nprint(sys.argv, __name__, beside_it.number)\n")
    before = sys.argv[:], sys.path[:]
    assert run_script(script, ["-x", "--limit", "3"]) == 0
    assert capsys.readouterr().out == f"{[str(script), '-x', '--limit', '3']} __main__ 5\n"
    assert (sys.argv, sys.path) == before
    del sys.modules["beside_it"]


@pytest.mark.parametrize(
    ("ending", "status", "told"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no')", 1, "no\n"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("def broken(:", 1, "SyntaxError"),
    ],
)
def test_a_scripts_end_is_its_status(
    script: Path, capsys: pytest.CaptureFixture[str], ending: str, status: int, told: str
) -> None:
    script.write_text(f"import sys\n{ending}\n")
    assert run_script(script, []) == status
    assert told in capsys.readouterr().err


def test_a_traceback_begins_in_the_script(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.write_text("def fail():\n    raise ValueError('here')\n\nfail()\n")
    assert run_script(script, []) == 1
    told = capsys.readouterr().err
    assert told.splitlines()[1] == f'  File "{script}", line 4, in <module>'
    assert "runpy" not in told


@pytest.mark.usefixtures("calibrated")
def test_each_kernel_has_a_line_and_the_slowest_is_first(script: Path) -> None:
    script.write_text(WORK)
    done = profile("--json", str(script), "--limit", "9")
    assert done.exit_code == 0
    first, last = done.stdout.splitlines()
    assert first == "given ['--limit', '9']"
    found = json.loads(last)
    kernels = {kernel["name"]: kernel for kernel in found["kernels"]}
    product, sum_ = kernels["mul sum 64×64←64 f32"], kernels["add 64×64 f32"]
    assert (product["calls"], sum_["calls"]) == (3, 1)
    assert product["operations"] >= 2 * 64**3
    assert (sum_["operations"], sum_["dram_bytes"]) == (64**2, 2 * 64**2 * 4)
    totals = [kernel["total_s"] for kernel in found["kernels"]]
    assert totals == sorted(totals, reverse=True)
    assert sum(kernel["share"] for kernel in found["kernels"]) == pytest.approx(1.0)
    assert 0 < found["busy_s"] <= found["wall_s"]
    assert found["lost"] == 0


@pytest.mark.usefixtures("calibrated")
def test_the_table_says_what_it_leaves_out(script: Path) -> None:
    script.write_text(WORK)
    told = profile("--limit", "1", str(script)).stdout
    assert "%DRAM" in told
    assert "kernels that took less are not shown" in told
    assert "peaks on 1 thread: DRAM 10.0 GB/s reading, 16.0 copying" in " ".join(told.split())


@pytest.mark.usefixtures("calibrated")
def test_a_script_that_fails_is_profiled_and_fails(script: Path) -> None:
    script.write_text(WORK + "raise SystemExit(3)\n")
    done = profile(str(script))
    assert done.exit_code == 3
    assert "mul sum 64×64" in done.stdout


@pytest.mark.usefixtures("calibrated")
def test_interpreted_kernels_have_times_and_no_picture(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")
    script.write_text(WORK)
    done = profile("--json", str(script))
    kernels = json.loads(done.stdout.splitlines()[-1])["kernels"]
    assert {"mul sum 64×64←64 f32", "add 64×64 f32"} <= {kernel["name"] for kernel in kernels}
    assert all("bound" not in kernel and kernel["total_s"] > 0 for kernel in kernels)
    assert "interpreted" in profile(str(script)).stdout


def test_a_script_must_be_named_and_be_there(script: Path) -> None:
    assert profile().exit_code == 2
    assert profile(str(script)).exit_code == 2


def test_times_are_written_in_three_digits() -> None:
    wanted = {
        0.0: "0 ns",
        3.14159e-8: "31.4 ns",
        9.996e-4: "1 ms",
        9.99e-4: "999 µs",
        2.0: "2 s",
        1234.5: "1234 s",
    }
    assert {value: seconds(value) for value in wanted} == wanted


@pytest.mark.usefixtures("calibrated")
def test_only_missing_peaks_are_measured() -> None:
    assert calibrated_peaks({1}) == {1: PEAKS}


@pytest.mark.slow
def test_peaks_are_measured_anew_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYFLEET_CACHE", str(tmp_path))
    monkeypatch.setenv("THREADS", "2")
    found = json.loads(profile("--calibrate", "--json").stdout.splitlines()[-1])
    assert [peaks["threads"] for peaks in found] == [1, 2]
    assert all(value > 0 for peaks in found for name, value in peaks.items() if name != "others")
    assert {each.threads for each in load(tmp_path / "peaks", processor_target()).values()} == {1, 2}
