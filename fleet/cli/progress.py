"""Something to look at while a job or a search goes on: one line that moves in a terminal, else a line for each
change. It belongs to stderr, results to stdout."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fleet.cli import text
from fleet.client import FINISHED
from fleet.resources import Job, Search

BAR_WIDTH = 32

Thing = TypeVar("Thing", Job, Search)

_PHASES = {
    "expand": "making candidates",
    "measure": "compiling, verifying, timing",
    "confirm": "confirming the best at full shape",
}


class View(Generic[Thing]):
    """What Live draws again and again: the last answer, and how long ago it came."""

    def __init__(self, thing: Thing, draw: Callable[[Thing, float, Spinner], RenderableType]) -> None:
        self.thing: Thing = thing
        self.seen_s = time.monotonic()
        self._draw: Callable[[Thing, float, Spinner], RenderableType] = draw
        self._spinner = Spinner("dots", style="cyan")

    def show(self, thing: Thing) -> None:
        """A newer answer arrived."""
        self.thing = thing
        self.seen_s = time.monotonic()

    def __rich__(self) -> RenderableType:
        return self._draw(self.thing, time.monotonic() - self.seen_s, self._spinner)


class Lines(Generic[Thing]):
    """A line for each change, for what is no terminal: a log of a script should say what was waited for."""

    def __init__(self, thing: Thing, say: Callable[[Thing], str], console: Console) -> None:
        self._said = ""
        self._say: Callable[[Thing], str] = say
        self._console = console
        self.show(thing)

    def show(self, thing: Thing) -> None:
        """A newer answer arrived; it is printed if it reads differently."""
        line = self._say(thing)
        if line != self._said:
            self._console.print(Text(line), soft_wrap=True)
        self._said = line


@contextmanager
def drawn_job(job: Job, console: Console) -> Iterator[View[Job] | Lines[Job]]:
    """Where the job's later answers are shown."""
    if not console.is_terminal:
        yield Lines(job, job_text, console)
        return
    view = View(job, job_line)
    with Live(view, console=console, refresh_per_second=8, transient=True):
        yield view


@contextmanager
def drawn_search(search: Search, console: Console) -> Iterator[View[Search] | Lines[Search]]:
    """Where the search's later answers are shown."""
    if not console.is_terminal:
        yield Lines(search, search_text, console)
        return
    view = View(search, search_line)
    with Live(view, console=console, refresh_per_second=8, transient=True):
        yield view


def job_text(job: Job) -> str:
    """The job in words: its state, and what it waits for."""
    waits = text.printable(job.reason) if job.state == "queued" else ""
    return f"job {job.id}: {job.state}" + (f": {waits}" if waits else "")


def search_text(search: Search) -> str:
    """The search in words: its state, and what it waits for or does."""
    head = f"search {search.id}: {search.state}"
    if search.state in FINISHED:
        return head
    return f"{head}: " + (f"round {search.rounds}, " if search.state == "running" else "") + _doing(search)


def job_line(job: Job, since_s: float, spinner: Spinner) -> RenderableType:
    """One line: spinner, job, state, and what it waits for."""
    line = Table.grid(padding=(0, 1))
    name = text.printable(job.name or job.kind)
    line.add_row(
        spinner,
        Text(f"job {job.id} {name}", style="bold"),
        Text(job.state, style="cyan"),
        Text(text.printable(job.reason) if job.state == "queued" else "", style="dim"),
    )
    return line


def search_line(search: Search, since_s: float, spinner: Spinner) -> RenderableType:
    """Budget bar, round and phase, candidates tried, and the best so far."""
    elapsed = search.elapsed_s + (since_s if search.state == "running" else 0.0)
    used = min(elapsed, search.budget_s)
    best = text.rate(search.flops, search.best_s)
    line = Table.grid(padding=(0, 1))
    line.add_row(
        spinner,
        ProgressBar(total=search.budget_s, completed=used, width=BAR_WIDTH),
        Text(spent(search, elapsed), style="dim"),
        Text(f"round {search.rounds}", style="cyan"),
        Text(f"{search.measured} tried"),
        Text(f"best {text.gflops(best)} GFLOP/s", style="bold green"),
        Text(_doing(search), style="dim"),
    )
    return line


def spent(search: Search, elapsed_s: float) -> str:
    """The seconds so far of the budget; a round that is under way and the confirmation may outlast it."""
    if elapsed_s < search.budget_s:
        return f"{elapsed_s:4.1f} of {search.budget_s:g} s"
    return f"budget {search.budget_s:g} s used"


def _doing(search: Search) -> str:
    if search.state == "queued":
        return text.printable(search.reason) or "waiting for a node"
    return _PHASES.get(search.phase, text.printable(search.phase)) or search.state
