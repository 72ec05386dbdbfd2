"""fp32 GEMM: the model's pick, and what a search makes of it, against NumPy's OpenBLAS and PyTorch.

`python -m tests.bench.gemm [--sizes 512,1000x1013x991] [--threads 1,2] [--seconds 1] [--search 1024] [--search-threads 1] [--budget 30]`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from secrets import randbits

import numpy as np
from rich.table import Table

from engine.flags import Flags
from engine.opts import Schedule
from engine.picks import picks
from engine.programs import program
from engine.search import search
from engine.store import Store
from tests.bench import peers
from tests.bench.contest import Engine, Work, contest
from tests.bench.racing import Ratio, Times, mean, shown, verdict

SIZES = "512,768,1024,1536,2048,1000x1013x991"
REACH = {"model": 0.85, "searched": 1.0}
MEAN_REACH = 0.9


def gemm(m: int, n: int, k: int) -> Work:
    """(m, k) @ (k, n)."""
    return Work(
        f"{m}×{n}×{k}",
        program("gemm", [m, n, k]),
        lambda a, b: a @ b,
        lambda out, a, b: np.matmul(a, b, out=out),
        lambda out, a, b: peers.torch().mm(a, b, out=out),
    )


def sizes(text: str) -> list[tuple[int, int, int]]:
    """Sizes of a comma-separated list: N or M×N×K, with x for ×."""
    found = []
    for word in filter(None, text.split(",")):
        numbers = [int(each) for each in word.split("x")]
        m, n, k = numbers * 3 if len(numbers) == 1 else numbers
        found.append((m, n, k))
    return found


def searched(work: Work, engine: Engine, budget_s: float, folder: Path) -> Schedule:
    """What a search from an empty cache finds."""
    flags = Flags(budget_s, engine.threads)
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        found = search(work.kernel, engine.target, store=Store(Path(cache)), flags=flags).best
    assert found is not None, "no candidate was right"
    return found.schedule


def binds(threads: int) -> str:
    """What keeps the engine's products from more."""
    alone = "loads of the register tile beside its multiply-adds, and packing"
    return alone if threads == 1 else f"{alone}, which each thread does for itself"


def add_rows(table: Table, work: Work, threads: int, times: dict[str, Times]) -> dict[str, Ratio]:
    """A row for each of the engine's schedules; their ratios to the BLAS."""
    found: dict[str, Ratio] = {}
    for name, reach in REACH.items():
        if name in times:
            ours = times[name]
            found[name] = Ratio.of(ours, times[peers.blas().name])
            theirs = str(Ratio.of(ours, times["PyTorch"])) if "PyTorch" in times else "missing"
            rates = f"{work.flops / ours.median_s / 1e9:.0f} / {work.flops / ours.best_s / 1e9:.0f}"
            reached = verdict(found[name], reach, binds(threads))
            table.add_row(work.name, str(threads), name, rates, str(found[name]), theirs, reached)
    return found


def measure(table: Table, options: argparse.Namespace, engine: Engine, folder: Path, seed: int) -> None:
    """The rows of an engine's number of threads."""
    threads = engine.threads
    ratios: dict[str, list[Ratio]] = {}
    for size in sizes(options.sizes):
        work = gemm(*size)
        schedules = {"model": picks(work.kernel, engine.target, threads)[0]}
        if size in sizes(options.search) and str(threads) in options.search_threads.split(","):
            schedules["searched"] = searched(work, engine, options.budget, folder)
        times = contest(work, schedules, engine, options.seconds, seed)
        for name, found in add_rows(table, work, threads, times).items():
            ratios.setdefault(name, []).append(found)
        if options.explain:
            print(work.name, threads, {name: " ".join(map(str, each)) for name, each in schedules.items()})
    for name, each in ratios.items():
        if len(each) > 1:
            found, reach = mean(each), MEAN_REACH if name == "model" else REACH[name]
            table.add_row(
                "geometric mean",
                str(threads),
                name,
                "",
                str(found),
                "",
                verdict(found, reach, binds(threads)),
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing, for each row and peer")
    parser.add_argument("--search", default="1024", help="sizes to search for")
    parser.add_argument("--search-threads", default="1", help="numbers of threads to search for")
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of each search")
    parser.add_argument("--explain", action="store_true", help="print the schedules")
    options = parser.parse_args(arguments)
    columns = ("M×N×K", "threads", "engine", "GFLOP/s", f"of {peers.blas().name}", "of PyTorch", "reach")
    with tempfile.TemporaryDirectory() as folder:
        for threads in map(int, options.threads.split(",")):
            table, seed = Table(*columns, title="fp32 GEMM; medians / bests"), randbits(31)
            with shown(table, f"seed {seed}", peers.described()):
                measure(table, options, Engine(Path(folder), threads), Path(folder), seed)


if __name__ == "__main__":
    main()
