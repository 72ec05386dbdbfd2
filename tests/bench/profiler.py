"""What the always-on ring of events costs: nanoseconds an event, and a kernel's time with it and without it.

`python -m tests.bench.profiler`. Runs with and without it take turns, and a low quantile of each counts. A kernel
of 50 microseconds or more should not take more than 1 % longer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter_ns

import numpy as np
from rich.console import Console
from rich.table import Table

from engine.device.cpu import Cpu
from engine.kernel import Kernel
from engine.options import Options
from engine.programs import program, random_inputs
from engine.runtime import cpu
from engine.runtime.ring import RING

RUNS = 3000
QUIET = 0.1  # runs are compared at this quantile: other work only adds to them
REACH = 1.01
WORKS = {
    "copy of 1 element": program("copy", [1]),
    "max(a * b + a, 0), 512×512": program("elementwise", [512, 512]),
    "gemm 160": program("gemm", [160, 160, 160]),
    "gemm 192": program("gemm", [192, 192, 192]),
}


class NoRing:
    """Takes events and keeps none."""

    def ended(self, number: int, start_ns: int) -> None:
        """Nothing."""


def no_clock() -> int:
    """Always the same time."""
    return 0


def event_ns() -> float:
    """What recording one event costs: two looks at the clock and a record."""
    ended, times = RING.ended, []
    for _ in range(20):
        begun = perf_counter_ns()
        for _ in range(10_000):
            ended(0, perf_counter_ns())
        times.append((perf_counter_ns() - begun) / 10_000)
    return min(times)


def pairs(device: Cpu, kernel: Kernel) -> tuple[float, float]:
    """(seconds without, seconds with): runs in turns, of each the time that a tenth of them stay below."""
    inputs = random_inputs(kernel, 0)
    times: tuple[list[int], list[int]] = ([], [])
    for number in range(2 * RUNS):
        with_ring = number % 2
        cpu.RING, cpu.perf_counter_ns = (RING, perf_counter_ns) if with_ring else (NoRing(), no_clock)  # type: ignore[assignment,attr-defined]
        begun = perf_counter_ns()
        device.run(kernel, inputs)
        times[with_ring].append(perf_counter_ns() - begun)
    without, with_ = (float(np.quantile(each, QUIET)) / 1e9 for each in times)
    return without, with_


def main() -> None:
    """Print the table."""
    each = event_ns()
    title = f"the ring of events: {each:.0f} ns an event, one after the other"
    table = Table("kernel", "without", "with", "ratio", "should be below", title=title)
    with tempfile.TemporaryDirectory() as folder:
        device = Cpu("LLVM", Options(cache=Path(folder), threads=1))
        for name, kernel in WORKS.items():
            off, on = pairs(device, kernel)
            word = "✓" if on / off <= REACH else "missed: two looks at the clock and a record"
            reach = f"{REACH}× {word}" if off >= 50e-6 else ""
            table.add_row(name, f"{off * 1e6:.2f} µs", f"{on * 1e6:.2f} µs", f"{on / off:.4f}×", reach)
    Console().print(table)


if __name__ == "__main__":
    main()
