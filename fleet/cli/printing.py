"""Results on stdout: tables for people, JSON for scripts. Everything else a command says goes to stderr."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from pydantic import BaseModel
from rich.console import RenderableType
from rich.text import Text

from fleet.cli.connection import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_UNFINISHED,
    EXIT_UNREACHABLE,
    fail,
    stderr,
    stdout,
)
from fleet.cli.waiting import GaveUp, TimeIsUp, look_again, noun
from fleet.resources import Job, Page, Search

ERROR_LINES = 10

Thing = TypeVar("Thing", Job, Search)


def show(resource: BaseModel | dict[str, Any], shown: RenderableType, as_json: bool) -> None:
    """The resource as JSON for scripts, else what a person reads."""
    if as_json:
        document = resource.model_dump(mode="json") if isinstance(resource, BaseModel) else resource
        typer.echo(json.dumps(document, indent=2))
    else:
        stdout().print(shown)


def show_page(page: Page[Any], table: RenderableType, nothing: str, as_json: bool) -> None:
    """A page of a list; `nothing` is said when it is empty, and how to get the next page when there is one."""
    if not page.items and not as_json:
        stderr().print(Text(nothing, style="dim"))
        return
    show(page, table, as_json)
    if page.next is not None and not as_json:
        stderr().print(Text(f"more: --after {page.next}", style="dim"))


def patiently(thing: Thing, wait: Callable[[], Thing], as_json: bool) -> Thing:
    """Wait for its end. An interrupt, a limit that has passed and a server that stays away leave it running and say
    how to come back to it; after the last two a script gets what was known last."""
    try:
        return wait()
    except KeyboardInterrupt:
        verb = look_again(thing)
        stop = verb.replace(" show ", " cancel ")
        stderr().print(Text(f"still running; see: {verb}, stop: {stop}", style="dim"))
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except GaveUp as ended:
        raise _unfinished(ended.last, str(ended), as_json, EXIT_UNREACHABLE) from None
    except TimeIsUp as ended:
        raise _unfinished(ended.last, str(ended), as_json, EXIT_UNFINISHED) from None


def _unfinished(last: Job | Search, why: str, as_json: bool, code: int) -> typer.Exit:
    if as_json:
        show(last, "", as_json)
    return fail(why, f"{noun(last)} {last.id} goes on; look at it: {look_again(last)}", code=code)


def exit_by_state(thing: Job | Search) -> None:
    """Exit 1 for what was waited for and did not succeed; the reason goes to stderr."""
    if thing.state not in {"succeeded", "done"}:
        lines = [line for line in thing.error.splitlines() if line.strip()]
        raise fail(f"{noun(thing)} {thing.id} {thing.state}", *lines[-ERROR_LINES:], code=EXIT_FAILED)
