"""What the always-on ring of events costs: nanoseconds an event, and a kernel's time with it and without it.

`python -m tests.bench.profiler`. With and without take turns in one run; medians, and the ratio of each pair of turns.
A kernel of 50 microseconds or more should not take more than 1 % longer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns

import numpy as np
from rich.console import Console
from rich.table import Table

from engine.device.cpu import Cpu
from engine.device.protocol import Array
from engine.kernel import Kernel
from engine.options import Options
from engine.programs import program, random_inputs
from engine.runtime import cpu
from engine.runtime.ring import RING

TURNS = 200
TURN_S = 0.004
REACH = 1.01
WORKS = {
    "copy of 1 element": program("copy", [1]),
    "max(a * b + a, 0) of 512×512": program("elementwise", [512, 512]),
    "gemm 192": program("gemm", [192, 192, 192]),
}


class NoRing:
    """Takes events and keeps none."""

    def add(self, number: int, start_ns: int, end_ns: int) -> None:
        """Nothing."""


def no_clock() -> int:
    """Always the same time."""
    return 0


def event_ns() -> float:
    """What recording one event costs: two looks at the clock and a record."""
    add, times = RING.add, []
    for _ in range(20):
        begun = perf_counter_ns()
        for _ in range(10_000):
            start = perf_counter_ns()
            add(0, start, perf_counter_ns())
        times.append((perf_counter_ns() - begun) / 10_000)
    return min(times)


def turn(device: Cpu, kernel: Kernel, inputs: list[Array], with_ring: bool) -> float:
    """The median of the runs of one turn, in seconds."""
    ring, clock = (RING, perf_counter_ns) if with_ring else (NoRing(), no_clock)
    cpu.RING, cpu.perf_counter_ns = ring, clock  # type: ignore[assignment,attr-defined]
    times, until = [], perf_counter() + TURN_S
    while not times or perf_counter() < until:
        begun = perf_counter()
        device.run(kernel, inputs)
        times.append(perf_counter() - begun)
    return median(times)


def main() -> None:
    """Print the table."""
    each = event_ns()
    title = f"the ring of events: {each:.0f} ns an event"
    table = Table("kernel", "without", "with", "ratio", "an event of it", title=title)
    with tempfile.TemporaryDirectory() as folder:
        device = Cpu("LLVM", Options(cache=Path(folder), threads=1))
        for name, kernel in WORKS.items():
            inputs = random_inputs(kernel, 0)
            pairs = []
            for number in range(TURNS):
                first = number % 2 == 0
                a, b = (turn(device, kernel, inputs, ring) for ring in (first, not first))
                pairs.append((a, b) if first else (b, a))
            on, off = (median(times) for times in zip(*pairs, strict=True))
            ratio = float(np.median([with_ / without for with_, without in pairs]))
            share = each / 1e9 / off
            verdict = "" if off < 50e-6 else " ✓" if share <= REACH - 1 else " more than 1 %"
            cells = (f"{off * 1e6:.1f} µs", f"{on * 1e6:.1f} µs", f"{ratio:.3f}×", f"{share:.2%}{verdict}")
            table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
