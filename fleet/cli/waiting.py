"""Waiting for a job or a search to end: it outlasts a server that is away for a while, and can be given a limit.

What is waited for goes on whatever happens here: an end without a result says how to come back to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import Console
from rich.text import Text

from fleet.cli import progress
from fleet.cli.text import printable
from fleet.client import FINISHED, ApiError, Client, Unreachable
from fleet.resources import Job, Search

# How long one request may be parked at the server; an interrupt is noticed after it at the latest.
WAIT_S = 1.0
LEAST_PAUSE_S = 0.25
# A server that restarts or moves is back within this, and so is a network.
AWAY_S = 60.0
AGAIN_S = 0.5
_AWAY = frozenset({502, 503, 504})  # what stands before a server answers while that is away

Thing = TypeVar("Thing", Job, Search)


class GaveUp(Exception):
    """No answer came for `AWAY_S`; `last` is what was known before."""

    def __init__(self, last: Job | Search, error: Unreachable) -> None:
        self.last, self.error = last, error
        super().__init__(str(error))


class TimeIsUp(Exception):
    """It has not ended within the seconds that were given; `last` is where it stood."""

    def __init__(self, last: Job | Search, within_s: float) -> None:
        self.last, self.within_s = last, within_s
        super().__init__(f"{noun(last)} {last.id} is still {last.state} after {within_s:g} s")


@dataclass(frozen=True)
class Question(Generic[Thing]):
    """How to ask where something stands: `ask(wait)` is answered at its end, or after `wait` seconds."""

    url: str
    ask: Callable[[float], Thing]

    def __call__(self, wait_s: float) -> Thing:
        """Raises Unreachable also when what stands before the server says that it is away."""
        try:
            return self.ask(wait_s)
        except ApiError as error:
            if error.status not in _AWAY:
                raise
            raise Unreachable(self.url, str(error)) from error


def noun(thing: Job | Search) -> str:
    """What it is called: job or search."""
    return "job" if isinstance(thing, Job) else "search"


def look_again(thing: Job | Search) -> str:
    """How to come back to what was waited for."""
    return f"tinyfleet {'jobs' if isinstance(thing, Job) else 'searches'} show {thing.id}"


def wait_for_job(client: Client, job: Job, console: Console, within_s: float | None = None) -> Job:
    """Follow the job until it has finished; what it returns is final. Raises GaveUp and TimeIsUp."""
    question = Question(client.base_url, lambda wait_s: client.job(job.id, wait=wait_s))
    if job.state in FINISHED:
        return job
    with progress.drawn_job(job, console) as screen:
        return _follow(job, question, screen.show, console, within_s)


def wait_for_search(
    client: Client, search: Search, console: Console, within_s: float | None = None
) -> Search:
    """Follow the search until it has finished; what it returns is final. Raises GaveUp and TimeIsUp."""
    question = Question(client.base_url, lambda wait_s: client.search(search.id, wait=wait_s))
    if search.state in FINISHED:
        return search
    with progress.drawn_search(search, console) as screen:
        return _follow(search, question, screen.show, console, within_s)


def _follow(
    thing: Thing,
    question: Question[Thing],
    show: Callable[[Thing], None],
    console: Console,
    within_s: float | None,
) -> Thing:
    ends_s = time.monotonic() + (float("inf") if within_s is None else within_s)
    while thing.state not in FINISHED:
        asked_s = time.monotonic()
        if within_s is not None and asked_s >= ends_s:
            raise TimeIsUp(thing, within_s)
        try:
            thing = _answer(question, console, min(WAIT_S, ends_s - asked_s), ends_s)
        except Unreachable as error:
            raise GaveUp(thing, error) from error
        show(thing)
        time.sleep(max(0.0, LEAST_PAUSE_S - (time.monotonic() - asked_s)))
    return thing


def _answer(question: Question[Thing], console: Console, wait_s: float, ends_s: float) -> Thing:
    """Ask until there is an answer, for `AWAY_S` or until `ends_s`; said once."""
    gives_up_s = None
    while True:
        try:
            return question(wait_s)
        except Unreachable as error:
            if gives_up_s is None:
                gives_up_s = min(ends_s, time.monotonic() + AWAY_S)
                console.print(Text(f"no answer from {printable(error.url)}, trying again…"), soft_wrap=True)
            if time.monotonic() >= gives_up_s:
                raise
        time.sleep(AGAIN_S)
