"""GEMM without AVX-512: the engine for AVX2's feature bits only, against OpenBLAS told to take its kernels for Haswell.

`python -m tests.bench.avx2 [--size 1024] [--threads 1,2] [--seconds 1]`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from secrets import randbits

from rich.table import Table

from engine.picks import picks
from engine.runtime.llvm import detect
from engine.target import Target, describe, read_processor
from tests.bench import peers
from tests.bench.contest import Engine, contest
from tests.bench.elsewhere import Elsewhere
from tests.bench.gemm import gemm
from tests.bench.racing import Ratio, shown, verdict

REACH = 0.85
BINDS = "half as many lanes and registers: the tile's loads take the ports beside its multiply-adds"
HASWELL = {"OPENBLAS_CORETYPE": "Haswell"}


def narrowed() -> Target:
    """This machine without the feature bits of AVX-512."""
    processor = read_processor()
    flags = frozenset(flag for flag in processor.flags if not flag.startswith(("avx512", "amx")))
    return describe(replace(processor, flags=flags), detect().compiler, ("-O2",))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; where there is no AVX2 say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing, for each row and peer")
    options = parser.parse_args(arguments)
    target = narrowed()
    if target.isa != "avx2":
        print(f"this machine has no AVX2, but {target.isa}: nothing to compare")
        return
    seed = randbits(31)
    table = Table(
        "M×N×K",
        "threads",
        "instructions",
        "GFLOP/s",
        "peer",
        "ratio",
        "reach",
        title="GEMM by AVX2; medians / bests",
    )
    with tempfile.TemporaryDirectory() as folder, shown(table, f"seed {seed}", peers.described()):
        for threads in map(int, options.threads.split(",")):
            engine = Engine(Path(folder), threads, target)
            work = replace(gemm(options.size, options.size, options.size), numpy=None, torch=None)
            schedules = {"engine": picks(work.kernel, target, threads)[0]}
            with Elsewhere("blas", options.size, threads, HASWELL) as blas:
                times = contest(work, schedules, engine, options.seconds, seed, [blas.racer()])
            found = Ratio.of(times["engine"], times[blas.name])
            rates = [
                f"{work.flops / each / 1e9:.0f}"
                for each in (times["engine"].median_s, times["engine"].best_s)
            ]
            row = (work.name, str(threads), target.isa, " / ".join(rates), blas.name)
            table.add_row(*row, str(found), verdict(found, REACH, BINDS))


if __name__ == "__main__":
    main()
