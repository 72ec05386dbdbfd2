"""What `make bench` runs: everybody is checked before anybody is timed, and each benchmark prints its table."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from engine.opts import Opt, OptKind
from engine.target import instruction_set, read_processor
from tests.bench import loops, peers
from tests.bench.__main__ import BENCHMARKS
from tests.bench.contest import Engine, Work, aligned, check, contest
from tests.bench.gemm import gemm
from tests.bench.racing import Racer, Ratio, Times, in_process, mean, race, verdict
from tests.whole import ROOT

TINY = {
    "compiling": "--shapes 2",
    "gemm": "--sizes 64,33x17x40 --seconds 0.02 --search 64 --budget 1",
    "products": "--scale 128 --seconds 0.02",
    "bandwidth": "--bytes 8388608 --seconds 0.02",
    "normalizing": "--rows 256 --seconds 0.02",
    "searching": "--size 64 --budget 1 --seconds 0.02 --explain",
    "avx2": "--size 64 --seconds 0.02",
    "scaling": "--size 128 --rounds 3",
    "walls": "--rounds 2",
    "trace": "--jobs 60 --nodes 8 --days 0.2",
    "telemetry": "--seconds 1",
    "identities": "--rounds 20",
    "scraping": "--nodes 4 --seconds 2",
    "keccak": "--bytes 8192 --messages 1,8 --seconds 0.02",
}
OTHERS = {
    "launch",
    "latency",
    "profiler",
    "logins",
}  # have no smaller form; logins also needs root and an sshd


def test_a_ratio_above_one_means_that_ours_is_faster() -> None:
    found = Ratio.of(Times((1.0, 2.0, 3.0)), Times((1.5, 3.0, 9.0)))
    assert (found.medians, found.bests) == (1.5, 1.5)
    assert str(mean([Ratio(1.0, 4.0), Ratio(4.0, 1.0)])) == "2.00 / 2.00"


def test_a_verdict_says_which_of_both_ratios_falls_short() -> None:
    assert verdict(Ratio(0.9, 0.8), 0.85, "memory") == "≥ 0.85 in medians only: memory"
    assert verdict(Ratio(0.8, 0.8), 0.85, "memory") == "≥ 0.85 missed: memory"
    assert verdict(Ratio(0.9, 0.9), 0.85, "memory") == "≥ 0.85 ✓"
    assert verdict(Ratio(0.8, 0.9), 0.85, "memory") == "≥ 0.85 in bests only: memory"


def test_all_have_as_many_turns_and_each_begins_once() -> None:
    turns: list[str] = []

    def racer(name: str) -> Racer:
        def turn(seconds: float) -> list[float]:
            turns.append(name)
            return [0.0]

        return Racer(name, turn)

    found = race([racer(name) for name in "abc"], 0.12)
    assert turns == list("abcbcacab")
    assert {name: len(times.times_s) for name, times in found.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_call_is_run_before_it_is_timed_and_timed_at_least_once() -> None:
    calls: list[int] = []
    assert len(in_process("counted", lambda: calls.append(1)).turn(0.0)) >= 1
    assert len(calls) >= 1


def test_a_peer_that_is_wrong_ends_the_contest_before_anybody_is_timed(tmp_path: Path) -> None:
    def off_by_one(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        np.matmul(a, b, out=out)
        out[-1, -1] += 1

    right = gemm(16, 24, 8)
    wrong = Work(right.name, right.kernel, right.wanted, off_by_one)
    engine = Engine(tmp_path, 1)
    timed: list[float] = []
    watcher = Racer("watcher", lambda seconds: timed.append(seconds) or [1.0])  # type: ignore[func-returns-value]
    with pytest.raises(
        AssertionError, match=f"16×24×8 by {peers.blas().name}.* is off by 1 .*nothing was timed"
    ):
        contest(wrong, {"model": ()}, engine, 0.01, 0, [watcher])
    assert timed == []
    assert set(contest(right, {"model": ()}, engine, 0.01, 0, [watcher])) >= {
        "model",
        peers.blas().name,
        "watcher",
    }
    assert timed != []


def test_whole_numbers_must_come_out_exactly_and_others_nearly() -> None:
    wanted = np.array([1.0, 2.0])
    check("exact", wanted.astype(np.float32), wanted, 0)
    check("near", (wanted + 1e-6).astype(np.float32), wanted, 8)
    with pytest.raises(AssertionError, match="exact is off by"):
        check("exact", (wanted + 1e-6).astype(np.float32), wanted, 0)
    with pytest.raises(AssertionError, match="far is off by"):
        check("far", (wanted + 1e-3).astype(np.float32), wanted, 8)
    with pytest.raises(AssertionError, match="gap is off by nan"):
        check("gap", np.array([1.0, np.nan], np.float32), wanted, 8)


def test_the_engine_runs_a_schedule_on_memory_that_is_there(tmp_path: Path) -> None:
    work = gemm(32, 32, 32)
    a, b = (aligned(np.random.default_rng(seed).standard_normal((32, 32), np.float32)) for seed in range(2))
    out = aligned(np.zeros((32, 32), np.float32))
    Engine(tmp_path, 2).run(work.kernel, (Opt(OptKind.THREAD, "out", 0, 2),), out, [a, b])()
    np.testing.assert_allclose(out, a.astype(np.float64) @ b, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_loops_in_c_compute_what_they_are_compared_for(tmp_path: Path, threads: int) -> None:
    made = loops.found(tmp_path)
    if made is None:
        pytest.skip("no C compiler")
    n, width = 3 * loops.PART + 13, 512
    a, b = (aligned(np.random.default_rng(seed).integers(-9, 9, n).astype(np.float32)) for seed in range(2))
    wanted = {"copy": a, "add": a + b, "fused": np.maximum(a * b + a, 0)}
    for name, values in wanted.items():
        for kind in ("plain", "stream", *(["memcpy"] if name == "copy" else [])):
            out = aligned(np.full(n, np.nan, np.float32))
            made.call(f"{name}_{kind}", threads, out, [a, b], n)()
            np.testing.assert_array_equal(out, values, err_msg=f"{name}_{kind}")
    for name in ("sum_plain", "sum_prefetch"):
        out = aligned(np.full(threads, np.nan, np.float32))
        made.call(name, threads, out, [a], n)()
        assert out.sum() == a.sum(), name
    matrix, vector = aligned(a[: 22 * width].reshape(22, width)), aligned(b[:width])
    for name in ("matvec_plain", "matvec_rows"):
        out = aligned(np.full(22, np.nan, np.float32))
        made.call(name, threads, out, [matrix, vector], 22, width, 4)()
        np.testing.assert_array_equal(out, matrix @ vector, err_msg=name)


def test_peers_are_named_also_where_they_are_missing() -> None:
    described = peers.described()
    assert f"NumPy {np.__version__}" in described
    for module, name in (("torch", "PyTorch"), ("tinygrad", "tinygrad")):
        assert (f"no {name} installed" in described) == (find_spec(module) is None)


def test_every_benchmark_has_a_module_and_a_small_form() -> None:
    names = {each.name for each in BENCHMARKS}
    assert names == TINY.keys() | OTHERS
    assert [name for name in names if not (ROOT / "tests" / "bench" / f"{name}.py").exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TINY))
def test_each_benchmark_prints_its_table(name: str) -> None:
    if name == "avx2" and instruction_set(read_processor()) not in ("avx2", "avx512"):
        pytest.skip("this machine has no AVX2")
    command = [sys.executable, "-m", f"tests.bench.{name}", *TINY[name].split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "load " in done.stdout, "its caption says what else the machine did"
    assert "│" in done.stdout


@pytest.mark.slow
def test_an_unknown_benchmark_is_refused_with_those_there_are() -> None:
    command = [sys.executable, "-m", "tests.bench", "gem"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "no benchmark gem; there are compiling, gemm" in done.stderr
