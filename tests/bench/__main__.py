"""All benchmarks, one after the other, each in a process of its own: `python -m tests.bench [--full] [name …]`.

Each prints its table as soon as it is ready. Ratios compare what was measured in one process, in turns; what comes
out wrong ends its benchmark before anything is timed, and this program then fails. --full takes an hour.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.bench import peers
from tests.bench.racing import load


@dataclass(frozen=True)
class Benchmark:
    """A module of this folder, and its arguments usually and with --full."""

    name: str
    usual: str = ""
    full: str = ""


EVERY_SIZE = "512,768,1024,1536,2048,1000x1013x991"
BENCHMARKS = (
    Benchmark("compiling", full="--shapes 40"),
    Benchmark("gemm", "--seconds 0.6", f"--seconds 3 --search {EVERY_SIZE} --search-threads 1,2"),
    Benchmark("products", "--seconds 0.6", "--seconds 3"),
    Benchmark("bandwidth", "--seconds 0.3", "--seconds 3"),
    Benchmark("normalizing", "--seconds 0.4", "--seconds 3 --rows 262144"),
    Benchmark("searching", "", "--seeds 5 --seconds 3 --tinygrad"),
    Benchmark("avx2", "--seconds 0.6", "--seconds 3"),
    Benchmark("scaling", "--rounds 30", "--rounds 200"),
    Benchmark("keccak", "--seconds 0.4", "--seconds 3"),
    Benchmark("launch"),
    Benchmark("profiler"),
    Benchmark("trace"),
    Benchmark("latency"),
    Benchmark("walls", "--rounds 40", "--rounds 400"),
    Benchmark("telemetry", "--seconds 30", "--seconds 120"),
    Benchmark("scraping", "--seconds 20", "--seconds 120"),
    Benchmark("identities", full="--rounds 50000"),
    Benchmark("logins", "--rounds 15", "--rounds 50"),
)


def main() -> int:
    """Run what was asked for; 1 if any of it failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = [each.name for each in BENCHMARKS]
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(names))
    parser.add_argument(
        "--full", action="store_true", help="more seeds, sizes and time, and tinygrad's search"
    )
    options = parser.parse_intermixed_args()
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    print(f"{load()} · {peers.described()}", flush=True)
    chosen = [each for each in BENCHMARKS if not options.names or each.name in options.names]
    failed = [
        each.name for number, each in enumerate(chosen) if not ran(each, options.full, number, len(chosen))
    ]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def ran(benchmark: Benchmark, full: bool, number: int, count: int) -> bool:
    """Run one, saying which; whether it succeeded."""
    arguments = (benchmark.full if full else benchmark.usual).split()
    print(f"\n[{number + 1}/{count}] {benchmark.name} {' '.join(arguments)}", flush=True)
    begun = time.monotonic()
    command = [sys.executable, "-m", f"tests.bench.{benchmark.name}", *arguments]
    # what a user has set for the engine would be measured instead of it
    environ = {
        name: text for name, text in os.environ.items() if name not in ("DEV", "THREADS", "PIN", "DEBUG")
    }
    found = subprocess.run(command, env=environ, check=False).returncode
    print(f"{benchmark.name}: {time.monotonic() - begun:.0f} s", flush=True)
    return found == 0


if __name__ == "__main__":
    sys.exit(main())
