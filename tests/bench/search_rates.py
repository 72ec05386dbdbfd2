"""How many candidates of a GEMM a search compiles, verifies and times a second, by either compiler, and what it finds.

`python -m tests.bench.search_rates [--size 1024] [--seeds 1] [--budget 30] [--threads 1] [--compiler llvm]`. Rates are
candidates a second of the whole search; CPU is seconds of all its processes a candidate. The winner and NumPy's OpenBLAS
are timed in turns afterwards; tests.bench.searching holds them to what they must reach.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from engine.compare import NUMPY, compare
from engine.flags import Flags
from engine.outcome import CORRECT, QUARANTINED, Outcome
from engine.programs import cost, program
from engine.search import search
from engine.store import Store
from engine.target import Target
from engine.toolchain import Compiler, detect


def cpu_s() -> float:
    """CPU seconds of this process and of those it has waited for."""
    return sum(os.times()[:4])


def row(size: int, flags: Flags, target: Target) -> list[str]:
    """One search from an empty store, and its winner against NumPy."""
    kernel = program("gemm", [size, size, size], "float32")
    with tempfile.TemporaryDirectory() as folder:
        store, before = Store(Path(folder)), cpu_s()
        found = search(kernel, target, store=store, flags=flags)
        spent = cpu_s() - before
        assert found.best is not None, "no candidate was right"
        pair = [("found", found.best.schedule), ("NumPy", NUMPY)]
        rows = compare(kernel, pair, target, store=store, threads=flags.threads, seed=flags.seed, time_s=2.0)
    best_s, numpy_s = (one.best_s or float("nan") for one in rows)
    ran = [m for m in found.measured if m.outcome in CORRECT | QUARANTINED]
    compiled = len([m for m in found.measured if m.outcome is not Outcome.ILLEGAL])
    timed = len([m for m in ran if m.times_s])
    rates = [f"{n / found.elapsed_s:.1f}" for n in (compiled, len(ran), timed)]
    rate = f"{cost(kernel).flops / best_s / 1e9:.0f}"
    facts = [str(len(found.rounds)), f"{found.elapsed_s:.0f} s", *rates, f"{spent / max(1, compiled):.2f} s"]
    return [str(flags.seed), *facts, rate, f"{numpy_s / best_s:.2f}×"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--budget", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compiler", type=Compiler, default=Compiler.LLVM)
    options = parser.parse_args()
    target = detect(options.compiler)
    title = f"search of fp32 GEMM {options.size}, {options.budget:g} s, {options.threads} thread · {target.compiler}"
    headings = ("seed", "rounds", "took", "compiled/s", "verified/s", "timed/s", "CPU", "GFLOP/s", "of NumPy")
    table = Table(*headings, title=title)
    for seed in range(options.seeds):
        flags = Flags(options.budget, options.threads, options.compiler, seed=seed)
        table.add_row(*row(options.size, flags, target))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
