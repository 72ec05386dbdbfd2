"""What the walls cost: an attempt's start through the zygote, with and without, beside plain subprocesses.

Measured from asking the zygote to the first line of the task, of a command to when its program is executed; the reach is
10 ms with Landlock. Rows take turns.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from fleet.agents.attempts import RESULT, Limits, State
from fleet.agents.durable import read_json
from fleet.agents.journal import Journal
from fleet.agents.processes import clock
from fleet.agents.protocol import AttemptSpec
from fleet.agents.runner import Runner
from fleet.agents.starter import Starter
from fleet.agents.tasks import command
from fleet.agents.tasks.context import Report, TaskContext, Tasks
from fleet.agents.walls.policy import WALLS
from tests.bench.racing import shown

REACH_S = 10e-3
WITH_LANDLOCK = "through the zygote, Landlock"
NOOP: dict[str, Any] = {"kind": "noop"}
TRUE: dict[str, Any] = {"kind": "command", "argv": ["true"]}
ROWS = {
    "through the zygote, no walls": ("none", NOOP),
    WITH_LANDLOCK: ("landlock", NOOP),
    "through the zygote, Landlock, seccomp, limits": ("landlock,seccomp,rights,limits", NOOP),
    "through the zygote, all walls": ("all", NOOP),
    "a command: true, no walls": ("none", TRUE),
    "a command: true, all walls but bubblewrap": (
        ",".join(wall for wall in WALLS if wall != "bubblewrap"),
        TRUE,
    ),
    "a command: true, all walls": ("all", TRUE),
}
LEASE_S = 7200.0


def timed(tasks: Tasks) -> Tasks:
    """For --setup: attempts that say when they began, and commands when their program did."""
    return replace(tasks, by_kind={**tasks.by_kind, "noop": _began, "command": _ran})


def _began(spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    return {"began": clock()}


def _ran(spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    moments = []

    def noted(said: dict[str, Any]) -> None:
        moments.append(clock())
        report(said)

    return command.run(spec, workdir, noted, context) | {"began": moments[-1]}


class Timed(Starter):
    """A starter that knows when it asked its zygote last; what is written down before is the disk's time."""

    asked = 0.0

    def ask(self, attempt: str, sealed: int = -1) -> bool:
        """As a Starter."""
        self.asked = clock()
        return super().ask(attempt, sealed)


@contextmanager
def zygote(folder: Path, walls: str, spec: dict[str, Any]) -> Iterator[Callable[[], tuple[float, float]]]:
    """A function that has one attempt of this job run: seconds until it began, and until it had ended and all was cleared away."""
    with (
        closing(Journal(folder)) as journal,
        closing(Timed(folder, "tests.bench.walls:timed", walls)) as starter,
    ):
        journal.renew(clock(), LEASE_S)
        starter.ensure()
        runner = Runner(folder, starter, Limits(), 60.0)
        numbers = iter(range(1, 1 << 30))
        yield lambda: _attempt(runner, starter, folder, next(numbers), spec)


def _attempt(
    runner: Runner, starter: Timed, folder: Path, number: int, spec: dict[str, Any]
) -> tuple[float, float]:
    asked = {"attempt_id": number, "job_id": 1, "fence": 1, "spec": spec, "device": "cpu"}
    runner.start(AttemptSpec.model_validate(asked | {"exclusive": False, "timeout_s": 60.0}))
    directory = folder / "attempts" / f"{number}-1"
    while (state := State.load(directory)) is None or state.phase != "exited":
        os.sched_yield()
    ended = clock()
    result = read_json(directory / RESULT)
    if result is None or result["outcome"] != "succeeded":
        raise SystemExit(f"the attempt ended otherwise: {state.error}")
    began = float(result["result"]["began"])
    for attempt in runner.observe():
        runner.forget(attempt)
    return began - starter.asked, ended - starter.asked


def plain(argv: list[str]) -> Callable[[], tuple[float, float]]:
    """A function that runs a command: the seconds until its end are all there is."""

    def run() -> tuple[float, float]:
        asked = clock()
        subprocess.run(argv, check=True)
        took = clock() - asked
        return took, took

    return run


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.walls", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    # Zygotes look for `timed` where Python looks, not where they were started.
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    with ExitStack() as held:
        ways: dict[str, Callable[[], tuple[float, float]]] = {}
        for name, (walls, spec) in ROWS.items():
            folder = Path(tempfile.mkdtemp(prefix="bench-"))
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            ways[name] = held.enter_context(zygote(folder / "state", walls, spec))
        ways["a plain subprocess: true"] = plain([shutil.which("true") or "/bin/true"])
        ways["a plain subprocess: python -c pass"] = plain([sys.executable, "-c", "pass"])
        ways["a plain subprocess that imports NumPy"] = plain([sys.executable, "-c", "import numpy"])
        if shutil.which("bwrap"):
            ways["a plain subprocess: bwrap … true"] = plain(
                ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
            )
        found = raced(ways, rounds)
    print_table(found)


def raced(
    ways: dict[str, Callable[[], tuple[float, float]]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """What each took, in turns; the first turn warms up."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            took = run()
            if number:
                found[name].append(took)
    return found


def print_table(found: dict[str, list[tuple[float, float]]]) -> None:
    """Medians and bests in milliseconds."""
    table = Table("", "median", "best", "to its end", "reach", title="start of an attempt, ms")
    with shown(table):
        for name, took in found.items():
            starts, ends = [start for start, _ in took], [end for _, end in took]
            median, least = statistics.median(starts), min(starts)
            reached = ""
            if name == WITH_LANDLOCK:
                word = "✓" if median <= REACH_S else "in bests only" if least <= REACH_S else "missed"
                reached = f"≤ {REACH_S * 1e3:g} {word}"
            times = (median, least, statistics.median(ends))
            table.add_row(name, *(f"{each * 1e3:.2f}" for each in times), reached)


if __name__ == "__main__":
    main()
