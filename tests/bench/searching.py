"""A search of GEMM from an empty cache, verification included: wall time, and what it found against NumPy's OpenBLAS.

`python -m tests.bench.searching [--size 1024] [--budget 30] [--seeds 1] [--tinygrad]`. On one thread. --tinygrad adds
tinygrad with BEAM=2, if it is installed: it searches for minutes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from secrets import randbits

from rich.table import Table

from engine.flags import Flags
from engine.outcome import Outcome
from engine.search import SearchResult, search
from engine.store import Store
from tests.bench import peers
from tests.bench.contest import Engine, Work, contest
from tests.bench.elsewhere import Elsewhere
from tests.bench.gemm import gemm
from tests.bench.racing import Ratio, Times, race, shown, verdict

REACH = 1.0
BINDS = "how many candidates the time makes: 0.1 s of a core for each, in Python and LLVM"


def from_nothing(work: Work, engine: Engine, budget_s: float, seed: int) -> tuple[SearchResult, float]:
    """What a search with an empty cache finds, and the seconds from its call to its answer."""
    with tempfile.TemporaryDirectory() as cache:
        begun = time.perf_counter()
        flags = Flags(budget_s, engine.threads, seed=seed)
        found = search(work.kernel, engine.target, store=Store(Path(cache)), flags=flags)
        return found, time.perf_counter() - begun


def add_row(
    table: Table, work: Work, what: str, took_s: float, tried: str, ours: Times, theirs: Times
) -> None:
    """One search, or a peer's."""
    rates = f"{work.flops / ours.median_s / 1e9:.0f} / {work.flops / ours.best_s / 1e9:.0f}"
    found = Ratio.of(ours, theirs)
    reached = verdict(found, REACH, BINDS) if tried else ""  # nobody promised what a peer finds
    table.add_row(what, f"{took_s:.1f}", tried, rates, str(found), reached)


def add_search(table: Table, work: Work, engine: Engine, options: argparse.Namespace, seed: int) -> None:
    """The row of one search."""
    before = _processor_s()
    found, took_s = from_nothing(work, engine, options.budget, seed)
    spent_s = _processor_s() - before
    assert found.best is not None, "no candidate was right"
    times = contest(work, {"engine": found.best.schedule}, engine, options.seconds, seed)
    compiled = sum(each.outcome is not Outcome.ILLEGAL for each in found.measured)
    timed = sum(bool(each.times_s) for each in found.measured)
    each_s = spent_s / max(1, compiled)
    tried = f"{compiled}, {timed} timed, {each_s:.2f} s of processor each; {found.stopped}"
    add_row(table, work, f"engine, seed {seed}", took_s, tried, times["engine"], times[peers.blas().name])
    if options.explain:
        print(" ".join(map(str, found.best.schedule)))


def _processor_s() -> float:
    """Seconds of processor of this process and of those it has waited for: what a search costs, whatever else runs."""
    return sum(os.times()[:4])


def add_tinygrad(table: Table, work: Work, options: argparse.Namespace) -> None:
    """The row of tinygrad's search, made in a folder that is empty."""
    if not find_spec("tinygrad"):
        table.add_row("tinygrad BEAM=2", "", "", "", "missing", "")
        return
    with tempfile.TemporaryDirectory() as cache:
        environ = {
            "BEAM": "2",
            "DEV": "CPU",
            "CPU_COUNT": "1",
            "CACHEDB": f"{cache}/cache.db",
            "XDG_CACHE_HOME": cache,
        }
        with (
            Elsewhere("tinygrad", options.size, 1, environ) as peer,
            Elsewhere("blas", options.size, 1, {}) as blas,
        ):
            times = race([peer.racer(), blas.racer()], options.seconds)
            name = "tinygrad BEAM=2"
            add_row(table, work, name, peer.preparing_s, "", times[peer.name], times[blas.name])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of each search")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing, for each row and peer")
    parser.add_argument("--tinygrad", action="store_true")
    parser.add_argument("--explain", action="store_true", help="print the schedules")
    options = parser.parse_args(arguments)
    work = gemm(options.size, options.size, options.size)
    columns = ("search", "wall s", "candidates, why it ended", "GFLOP/s", f"of {peers.blas().name}", "reach")
    table = Table(
        *columns, title=f"search of GEMM {options.size} from an empty cache, one thread; medians / bests"
    )
    os.environ["THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder, shown(table, peers.described()):
        engine = Engine(Path(folder), 1)
        for _ in range(options.seeds):
            add_search(table, work, engine, options, randbits(31))
        if options.tinygrad:
            add_tinygrad(table, work, options)


if __name__ == "__main__":
    main()
