"""What a kernel costs before it runs: the model's pick, lowering and rendering in Python, and LLVM.

`python -m tests.bench.compiling [--shapes 10]`. GEMMs of shapes all different, so that nothing was made before, with the
model's schedules. Medians, in milliseconds; time during which the processor had other work is not in the second column.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.table import Table

from engine.picks import picks
from engine.pipeline import compile_source
from engine.programs import program
from engine.render.llvm import LlvmRenderer
from engine.runtime.llvm import LlvmRuntime, detect
from tests.bench.racing import load, show

PICK_REACH_MS, ESTIMATES_REACH, LOADED_REACH_MS = 200, 300, 60


@dataclass
class Stage:
    """Milliseconds that one stage took, by the clock and of the processor, each time."""

    clock_ms: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)

    def add(self, other: Stage) -> Stage:
        """Both together, each time."""
        clock, processor = (
            [a + b for a, b in zip(*each, strict=True)]
            for each in ((self.clock_ms, other.clock_ms), (self.processor_ms, other.processor_ms))
        )
        return Stage(clock, processor)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Note how long the block takes."""
        clock, processor = time.perf_counter(), time.process_time()
        yield
        self.clock_ms.append((time.perf_counter() - clock) * 1e3)
        self.processor_ms.append((time.process_time() - processor) * 1e3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=10)
    options = parser.parse_args(arguments)
    target = detect()
    pick, rendering, loading, estimates = Stage(), Stage(), Stage(), []
    with tempfile.TemporaryDirectory() as folder:
        runtime = LlvmRuntime(target, Path(folder))
        for number in range(options.shapes):
            kernel = program("gemm", [1000 + 24 * number, 1024 + 16 * number, 960 + 40 * number])
            with pick.timed():
                asked = picks(kernel, target)
            estimates.append(len(asked))
            with rendering.timed():
                rendered = compile_source(kernel, asked[0], LlvmRenderer(target.features), target.features)
            with loading.timed():
                runtime.load(rendered)
    table = Table(
        "stage",
        "ms",
        "ms of processor",
        "longest",
        "reach",
        title=f"a GEMM before it runs, {options.shapes} shapes",
    )
    rows = (
        (
            f"the model's pick, {median(estimates):.0f} estimates, {max(estimates)} at most",
            pick,
            PICK_REACH_MS,
        ),
        ("lowering and rendering in Python", rendering, None),
        ("LLVM: from assembly to loaded code", loading, None),
        ("from the definition and a schedule to loaded code", rendering.add(loading), LOADED_REACH_MS),
    )
    for name, stage, reach in rows:
        middle = median(stage.clock_ms), median(stage.processor_ms)
        met = (
            ""
            if reach is None
            else f"≤ {reach} ms "
            + ("✓" if middle[0] <= reach else "missed" if middle[1] > reach else "of processor only")
        )
        table.add_row(name, *(f"{each:.1f}" for each in middle), f"{max(stage.clock_ms):.1f}", met)
    over = max(estimates) > ESTIMATES_REACH
    table.caption = (
        f"{load()} · estimates: ≤ {ESTIMATES_REACH} {'missed' if over else '✓'} · {target.compiler}"
    )
    show(table)


if __name__ == "__main__":
    main()
