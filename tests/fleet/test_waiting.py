"""Waiting at the command line: for a server that is away, up to a limit, and with nobody at a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest
import typer
from rich.console import Console

from fleet.cli import printing, waiting
from fleet.cli.connection import EXIT_UNFINISHED, EXIT_UNREACHABLE
from fleet.cli.progress import spent
from fleet.client import Client
from fleet.resources import Job, Search

Thing = TypeVar("Thing", Job, Search)
LOST = httpx.ConnectError("connection refused")
Answer = dict[str, Any] | Exception | int


def a_job(state: str, reason: str = "") -> dict[str, Any]:
    """A job as the server shows it."""
    about = {"priority": 0, "timeout_s": 60, "max_retries": 0, "created_at": "2026-01-01T00:00:00.000Z"}
    return {"id": 7, "kind": "noop", "spec": {}, "state": state, "reason": reason, **about}


def a_search(state: str, phase: str = "", rounds: int = 0, elapsed_s: float = 0.0) -> dict[str, Any]:
    """A search as the server shows it."""
    limits = {"width": 4, "budget_s": 5.0, "threads": 1, "per_round": 8, "max_rounds": 4, "seed": 0}
    stands = {"state": state, "phase": phase, "rounds": rounds, "elapsed_s": elapsed_s, "source": "search"}
    return {"id": 3, "kernel": {}, "created_at": "2026-01-01T00:00:00.000Z", **limits, **stands}


def answering(answers: Iterator[Answer]) -> Client:
    """A client whose server gives these answers one by one; an exception is a broken connection."""

    def answer(request: httpx.Request) -> httpx.Response:
        given = next(answers)
        if isinstance(given, Exception):
            raise given
        return httpx.Response(given) if isinstance(given, int) else httpx.Response(200, json=given)

    return Client("http://fleet.example", "tfu_x", httpx.MockTransport(answer), retry_delays_s=())


@pytest.fixture
def log() -> Console:
    """What is no terminal."""
    return Console(file=io.StringIO(), width=240)


def lines(console: Console) -> list[str]:
    """What was printed on it."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up at once."""
    monkeypatch.setattr(waiting, "AWAY_S", 0.0)


def forever(answer: dict[str, Any] | Exception) -> Iterator[Answer]:
    """The same answer again and again."""
    while True:
        yield answer


def test_a_server_that_is_away_for_a_while_is_waited_for_and_said_once(log: Console) -> None:
    answers: list[Answer] = [LOST, LOST, 503, a_job("running"), LOST, a_job("succeeded")]
    with answering(iter(answers)) as client:
        ended = waiting.wait_for_job(client, Job.model_validate(a_job("queued")), log)
    assert ended.state == "succeeded"
    away = "no answer from http://fleet.example, trying again…"
    assert lines(log) == ["job 7: queued", away, "job 7: running", away, "job 7: succeeded"]


def test_a_refusal_is_not_asked_for_again(log: Console) -> None:
    with answering(iter([404])) as client, pytest.raises(Exception, match="404"):
        waiting.wait_for_job(client, Job.model_validate(a_job("queued")), log)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_stays_away_ends_the_wait_and_names_the_search(
    log: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    search = Search.model_validate(a_search("running", "measure", 2))
    with answering(forever(LOST)) as client:
        code = exit_code(lambda: waiting.wait_for_search(client, search, log), search)
    printed = capsys.readouterr()
    assert code == EXIT_UNREACHABLE
    assert "search 3 goes on; look at it: tinyfleet searches show 3" in printed.err
    assert json.loads(printed.out) == search.model_dump(mode="json")


def exit_code(wait: Callable[[], Thing], thing: Thing) -> int:
    """What the command exits with when the wait does not come to its end, with --json."""
    with pytest.raises(typer.Exit) as ended:
        printing.patiently(thing, wait, as_json=True)
    return ended.value.exit_code


def test_a_limit_ends_the_wait_and_the_job_goes_on(log: Console, capsys: pytest.CaptureFixture[str]) -> None:
    job = Job.model_validate(a_job("queued"))
    with answering(forever(a_job("queued", "no node has room"))) as client:
        code = exit_code(lambda: waiting.wait_for_job(client, job, log, within_s=0.3), job)
    printed = capsys.readouterr()
    assert code == EXIT_UNFINISHED
    assert "job 7 is still queued after 0.3 s" in printed.err
    assert "tinyfleet jobs show 7" in printed.err
    assert json.loads(printed.out)["reason"] == "no node has room"


def test_a_limit_holds_while_the_server_is_away(log: Console) -> None:
    job = Job.model_validate(a_job("queued"))
    with answering(forever(LOST)) as client, pytest.raises(waiting.GaveUp):
        waiting.wait_for_job(client, job, log, within_s=0.1)


def test_without_a_terminal_each_change_is_a_line(log: Console) -> None:
    answers = [
        a_job("queued", "no node is ready"),
        a_job("queued", "no node is ready"),
        a_job("queued", "no node has arch x\x1b[2J"),
        a_job("failed"),
    ]
    with answering(iter(answers)) as client:
        waiting.wait_for_job(client, Job.model_validate(a_job("queued")), log)
    assert lines(log) == [
        "job 7: queued",
        "job 7: queued: no node is ready",
        "job 7: queued: no node has arch x\\x1b[2J",
        "job 7: failed",
    ]


def test_a_searchs_rounds_and_phases_are_lines_too(log: Console) -> None:
    answers = [a_search("running", "measure", 1, s) for s in (0.5, 1.0)] + [a_search("done")]
    with answering(iter(answers)) as client:
        waiting.wait_for_search(client, Search.model_validate(a_search("queued")), log)
    assert lines(log) == [
        "search 3: queued: waiting for a node",
        "search 3: running: round 1, compiling, verifying, timing",
        "search 3: done",
    ]


def test_seconds_beyond_the_budget_are_not_a_part_of_it() -> None:
    search = Search.model_validate(a_search("running", "confirm", 2))
    assert [spent(search, elapsed_s) for elapsed_s in (1.25, 22.5)] == [" 1.2 of 5 s", "budget 5 s used"]
