"""Many random schedules of every sample kernel, over hours if need be: `python -m tests.schedule_soak [--count 100000]`.

Every batch that is done is one line of the state file, so that an interrupted run goes on where it stopped; what was
run of other sources than today's does not count and has to be thrown away by name. Prints how often each action was
used, and every schedule that gave another result than the definition; the exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.runtime.llvm import LlvmRuntime, detect
from tests.engine.scheduling import KERNELS, Problem, describe, run, schedule_of

BATCH = 50
# LLVM keeps a little of every kernel: a process does so many batches and makes room for another.
BATCHES_OF_A_PROCESS = 40
ROOT = Path(__file__).parent.parent

Batch = tuple[str, int]  # a kernel's name and a number


@dataclass
class State:
    """What has been done, as lines of a file: first what sources it was, then a batch a line."""

    path: Path
    done: dict[Batch, dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    def at(path: Path) -> State:
        """The state of an earlier run of the same sources, or a new one. SystemExit if it is of other sources."""
        state = State(path)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            state._append({"sources": sources()})
            return state
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):  # the last line is torn: what follows begins another
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")
        documents = [found for line in text.splitlines() if (found := _parsed(line)) is not None]
        if not documents or documents[0] != {"sources": sources()}:
            sys.exit(f"{path} is of other sources than these: remove it to begin anew")
        state.done = {(each["kernel"], each["batch"]): each for each in documents[1:]}
        return state

    def add(self, found: dict[str, Any]) -> None:
        """Keep a batch, whatever happens next."""
        self.done[found["kernel"], found["batch"]] = found
        self._append(found)

    def _append(self, document: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(document)}\n")
            file.flush()
            os.fsync(file.fileno())


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return found


@lru_cache(maxsize=1)
def sources() -> str:
    """A hash of everything that schedules, compiles and checks."""
    found = hashlib.sha3_256()
    folders = (ROOT / "engine", ROOT / "tests" / "engine")
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        found.update(f"{path.relative_to(ROOT)}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def batches() -> Iterator[Batch]:
    """All there are: the kernels in turns, without end."""
    return ((name, number) for number in count() for name in KERNELS)


@lru_cache(maxsize=1)
def _runtime() -> LlvmRuntime:
    return LlvmRuntime(detect())


@lru_cache(maxsize=len(KERNELS))
def _problem(name: str) -> Problem:
    return Problem.of(KERNELS[name], seed=len(name))


def soak(batch: Batch) -> dict[str, Any]:
    """Run one batch: what actions its schedules used, and what is wrong with their results."""
    name, number = batch
    rng = random.Random(f"soak {name} {number}")
    used: Counter[str] = Counter()
    faults = []
    for _ in range(BATCH):
        schedule = schedule_of(KERNELS[name], rng)
        used.update(opt.kind.value for opt in schedule)
        if fault := run(_problem(name), schedule, _runtime()):
            faults.append(describe(name, schedule, fault))
    return {"kernel": name, "batch": number, "used": used, "faults": faults}


def main() -> int:
    """Run what is missing of the wanted number of schedules."""
    parser = argparse.ArgumentParser(prog="python -m tests.schedule_soak", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="schedules in all")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "schedule_soak.jsonl")
    options = parser.parse_args()
    state = State.at(options.state)
    wanted = list(islice(batches(), -(-options.count // BATCH)))
    left = [batch for batch in wanted if batch not in state.done]
    console = Console()
    columns = (TextColumn("batches"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("batches", total=len(wanted), completed=len(wanted) - len(left))
        for found in soaked(left, options.processes):
            state.add(found)
            progress.advance(bar)
            for fault in found["faults"]:
                console.print(f"WRONG {fault}")
    return report([state.done[batch] for batch in wanted], console)


def soaked(left: list[Batch], processes: int, each: int = BATCHES_OF_A_PROCESS) -> Iterator[dict[str, Any]]:
    """Each batch as it is done, by processes that do about `each` before others take their place.

    An executor that replaces its own processes hangs in Python 3.11: it gets its share.
    """
    share = processes * each
    for start in range(0, len(left), share):
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            for future in as_completed([pool.submit(soak, batch) for batch in left[start : start + share]]):
                yield future.result()


def report(done: list[dict[str, Any]], console: Console) -> int:
    """Print the sums; 1 if anything was wrong."""
    used: Counter[str] = Counter()
    for each in done:
        used.update(each["used"])
    faults = [fault for each in done for fault in each["faults"]]
    kernels = len({each["kernel"] for each in done})
    console.print(f"{BATCH * len(done)} schedules of {kernels} kernels, {len(faults)} wrong")
    console.print(*(f"{number:>8} {kind}" for kind, number in used.most_common()), sep="\n")
    console.print(*(f"WRONG {fault}" for fault in faults), sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
