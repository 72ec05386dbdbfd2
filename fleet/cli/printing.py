"""Results on stdout: tables for people, JSON for scripts. Everything else a command says goes to stderr."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from pydantic import BaseModel
from rich.console import RenderableType
from rich.text import Text

from fleet.cli.connection import EXIT_FAILED, EXIT_INTERRUPTED, fail, stderr, stdout
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


def patiently(thing: Thing, wait: Callable[[], Thing]) -> Thing:
    """Wait for its end; an interrupt leaves it running and says how to come back to it."""
    try:
        return wait()
    except KeyboardInterrupt:
        noun, verb = ("jobs", "show --wait") if isinstance(thing, Job) else ("searches", "show")
        line = f"still running; see: tinyfleet {noun} {verb} {thing.id}, stop: tinyfleet {noun} cancel {thing.id}"
        stderr().print(Text(line, style="dim"))
        raise typer.Exit(EXIT_INTERRUPTED) from None


def exit_by_state(thing: Job | Search) -> None:
    """Exit 1 for what was waited for and did not succeed; the reason goes to stderr."""
    if thing.state not in {"succeeded", "done"}:
        noun = "job" if isinstance(thing, Job) else "search"
        lines = [line for line in thing.error.splitlines() if line.strip()]
        raise fail(f"{noun} {thing.id} {thing.state}", *lines[-ERROR_LINES:], code=EXIT_FAILED)
