"""Waiting for a job or a search with something to look at. Progress is drawn on stderr, results belong to stdout."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fleet.cli import text
from fleet.client import FINISHED, Client
from fleet.resources import Job, Search

# How long one request may be parked at the server; an interrupt is noticed after it at the latest.
JOB_WAIT_S = 1.0
SEARCH_WAIT_S = 1.0
LEAST_PAUSE_S = 0.25
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


def wait_for_job(client: Client, job: Job, console: Console) -> Job:
    """Follow the job until it has finished; what it returns is final."""
    return _follow(View(job, job_line), lambda: client.job(job.id, wait=JOB_WAIT_S), console)


def wait_for_search(client: Client, search: Search, console: Console) -> Search:
    """Follow the search until it has finished; what it returns is final."""
    return _follow(View(search, search_line), lambda: client.search(search.id, wait=SEARCH_WAIT_S), console)


def _follow(view: View[Thing], ask: Callable[[], Thing], console: Console) -> Thing:
    if view.thing.state in FINISHED:
        return view.thing
    with Live(view, console=console, refresh_per_second=8, transient=True):
        while view.thing.state not in FINISHED:
            asked_s = time.monotonic()
            view.show(ask())
            time.sleep(max(0.0, LEAST_PAUSE_S - (time.monotonic() - asked_s)))
    return view.thing


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
        Text(f"{elapsed:4.1f} of {search.budget_s:g} s", style="dim"),
        Text(f"round {search.rounds}", style="cyan"),
        Text(f"{search.measured} tried"),
        Text(f"best {text.gflops(best)} GFLOP/s", style="bold green"),
        Text(_doing(search), style="dim"),
    )
    return line


def _doing(search: Search) -> str:
    if search.state == "queued":
        return text.printable(search.reason) or "waiting for a node"
    return _PHASES.get(search.phase, text.printable(search.phase)) or search.state
