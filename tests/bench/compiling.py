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

from engine.kernel import Kernel
from engine.picks import picks
from engine.pipeline import compile_source
from engine.programs import program
from engine.render.llvm import LlvmRenderer
from engine.runtime.llvm import LlvmRuntime, detect
from tests.bench.racing import shown

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


@dataclass
class Stages:
    """What is measured of each kernel; and how often the model was asked."""

    pick: Stage = field(default_factory=Stage)
    rendering: Stage = field(default_factory=Stage)
    loading: Stage = field(default_factory=Stage)
    estimates: list[int] = field(default_factory=list)

    def measure(self, kernel: Kernel, runtime: LlvmRuntime) -> None:
        """One kernel, from its definition to loaded code."""
        target = runtime.target
        with self.pick.timed():
            asked = picks(kernel, target)
        self.estimates.append(len(asked))
        with self.rendering.timed():
            rendered = compile_source(kernel, asked[0], LlvmRenderer(target.features), target.features)
        with self.loading.timed():
            runtime.load(rendered)

    def add_rows(self, table: Table) -> None:
        """A row for each stage."""
        asked = f"{median(self.estimates):.0f} estimates, {max(self.estimates)} at most"
        rows = (
            (f"the model's pick, {asked}", self.pick, PICK_REACH_MS),
            ("lowering and rendering in Python", self.rendering, None),
            ("LLVM: from assembly to loaded code", self.loading, None),
            ("from a schedule to loaded code", self.rendering.add(self.loading), LOADED_REACH_MS),
        )
        for name, stage, reach in rows:
            clock, processor = median(stage.clock_ms), median(stage.processor_ms)
            reached = "" if reach is None else f"≤ {reach} ms {_word(clock, processor, reach)}"
            table.add_row(name, f"{clock:.1f}", f"{processor:.1f}", f"{max(stage.clock_ms):.1f}", reached)


def _word(clock: float, processor: float, reach: float) -> str:
    missed = "missed: thousands of nodes, each built, walked and verified in Python"
    return "✓" if clock <= reach else "of processor only" if processor <= reach else missed


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=10)
    options = parser.parse_args(arguments)
    columns = ("stage", "ms", "ms of processor", "longest", "reach")
    table = Table(*columns, title=f"a GEMM before it runs, {options.shapes} shapes")
    stages = Stages()
    with tempfile.TemporaryDirectory() as folder:
        runtime = LlvmRuntime(detect(), Path(folder))
        for number in range(options.shapes):
            shape = [1000 + 24 * number, 1024 + 16 * number, 960 + 40 * number]
            stages.measure(program("gemm", shape), runtime)
    reached = "✓" if max(stages.estimates) <= ESTIMATES_REACH else "missed"
    with shown(table, f"estimates: ≤ {ESTIMATES_REACH} {reached}", runtime.target.compiler):
        stages.add_rows(table)


if __name__ == "__main__":
    main()
