"""Two threads against one, GEMM 1024: the engine's gain and OpenBLAS's own, in the same rounds.

`python -m tests.bench.scaling [--size 1024] [--rounds 40]`. In each round a loop of multiply-adds in registers says what two
threads could gain; a round in which it gains less than 1.7 is void: the machine had no second core to give.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from secrets import randbits
from statistics import median

import numpy as np
from rich.table import Table

from engine.picks import picks
from engine.programs import random_inputs
from tests.bench import loops, peers
from tests.bench.contest import Engine, Work, aligned, check
from tests.bench.gemm import gemm
from tests.bench.racing import Run, shown

REACH, LEAST_GAIN = 0.95, 1.7
BINDS = "each thread packs for itself what both read"
PROBE_TURNS = 8_000_000  # some 10 ms of multiply-adds on one thread
# A BLAS thread spins for some 0.1 s after its last product, and would keep its core from whoever comes next.
SETTLE_S = 0.15
Gains = dict[str, float]


class Contest:
    """One run of everybody, on one thread and on two: calls by name and number of threads."""

    def __init__(self, work: Work, folder: Path, seed: int, probe: loops.Loops | None) -> None:
        inputs = [aligned(array) for array in random_inputs(work.kernel, seed)]
        out = aligned(np.zeros((len(inputs[0]), inputs[1].shape[1]), np.float32))
        self.runs: dict[tuple[str, int], Run] = {}
        for threads in (1, 2):
            engine = Engine(folder, threads)
            schedule = picks(work.kernel, engine.target, threads)[0]
            self.runs["engine", threads] = engine.run(work.kernel, schedule, out, inputs)
            assert work.numpy is not None
            self.runs["blas", threads] = lambda out=out: work.numpy(out, *inputs)  # type: ignore[misc]
            if probe is not None:
                turns = PROBE_TURNS * threads  # twice the work on two
                self.runs["probe", threads] = probe.call("multiply_adds", threads, out, [inputs[0]], turns)
        wanted = inputs[0].astype(np.float64) @ inputs[1].astype(np.float64)
        for (name, threads), run in self.runs.items():
            peers.limit(threads)
            if name != "probe":
                run()
                check(f"{work.name} by {name} on {threads} threads", out, wanted, inputs[0].shape[1])

    def round(self) -> Gains:
        """What each gains by the second thread, measured once."""
        taken: dict[tuple[str, int], float] = {}
        for (name, threads), run in self.runs.items():
            peers.limit(threads)
            time.sleep(SETTLE_S)
            run()
            begun = time.perf_counter()
            run()
            taken[name, threads] = time.perf_counter() - begun
        return {
            name: taken[name, 1] / taken[name, 2] * (2 if name == "probe" else 1)
            for name in dict.fromkeys(name for name, _ in self.runs)
        }


def add_rows(table: Table, rounds: Sequence[Gains]) -> None:
    """The gains of the valid rounds, and the engine's over the BLAS's."""
    valid = [each for each in rounds if each.get("probe", 2.0) >= LEAST_GAIN]
    for kind, chosen in (("valid rounds", valid), ("all rounds", rounds)):
        if not chosen:
            table.add_row(kind, "0", "", "", "", "", f"void: the probe never gained {LEAST_GAIN}")
            continue
        gains = {name: median(each[name] for each in chosen) for name in chosen[0]}
        found = median(each["engine"] / each["blas"] for each in chosen)
        judged = "" if chosen is rounds else f"≥ {REACH} " + ("✓" if found >= REACH else f"missed: {BINDS}")
        probe = f"{gains['probe']:.2f}" if "probe" in gains else "no C compiler"
        table.add_row(
            kind,
            str(len(chosen)),
            probe,
            *(f"{gains[name]:.2f}" for name in ("engine", "blas")),
            f"{found:.2f}",
            judged,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args(arguments)
    seed = randbits(31)
    with tempfile.TemporaryDirectory() as folder:
        work = gemm(options.size, options.size, options.size)
        contest = Contest(work, Path(folder), seed, loops.found(Path(folder)))
        rounds = [contest.round() for _ in range(options.rounds)]
    columns = ("", "rounds", "multiply-adds", "engine", peers.blas().name, "engine / BLAS", "reach")
    table = Table(*columns, title=f"two threads against one, GEMM {work.name}; medians")
    with shown(table, f"seed {seed}", peers.described()):
        add_rows(table, rounds)


if __name__ == "__main__":
    main()
