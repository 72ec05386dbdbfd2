"""fp32 GEMM: the definition as written, the heuristic's schedule, what BEAM finds, and NumPy, interleaved in one run.

`python tests/bench/gemm.py [--sizes 512,1024] [--threads 1,2] [--budget 30]`. Ratios are what counts: machines are
shared. Every kernel was verified before it was timed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from engine import heuristic
from engine.compare import NUMPY, compare
from engine.flags import Flags
from engine.programs import cost, program
from engine.search import search
from engine.store import Store
from engine.target import Target
from engine.toolchain import detect


def measure(size: int, threads: int, budget_s: float, target: Target, store: Store, table: Table) -> None:
    """Search one size, then time the four rows in turns."""
    kernel = program("gemm", [size, size, size], "float32")
    found = search(kernel, target, store=store, flags=Flags(budget_s, threads))
    assert found.best is not None, "no candidate was right"
    wanted = [
        ("as written (-O2)", ()),
        ("heuristic", heuristic.schedule(kernel, target, threads)),
        (f"BEAM, {len(found.measured)} candidates in {found.elapsed_s:.0f} s", found.best.schedule),
        ("NumPy", NUMPY),
    ]
    rows = compare(kernel, wanted, target, store=store, threads=threads, time_s=2.0)
    numpy_s = next(row.best_s for row in rows if row.name == "NumPy")
    for row in rows:
        if row.best_s and numpy_s:
            rate = cost(kernel).flops / row.best_s / 1e9
            table.add_row(str(size), str(threads), row.name, f"{rate:.1f}", f"{numpy_s / row.best_s:.2f}×")
        else:
            table.add_row(str(size), str(threads), row.name, row.outcome.value, "")
    table.add_section()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="512,1024")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--budget", type=float, default=30.0)
    options = parser.parse_args()
    target = detect()
    table = Table("N", "threads", "schedule", "GFLOP/s", "of NumPy", title=f"fp32 GEMM · {target.arch}")
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, options.sizes.split(",")):
            for threads in map(int, options.threads.split(",")):
                measure(size, threads, options.budget, target, Store(Path(folder)), table)
    Console().print(table)


if __name__ == "__main__":
    main()
