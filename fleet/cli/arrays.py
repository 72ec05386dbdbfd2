"""tinyfleet arrays: many jobs that differ in their index only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fleet.cli.connection import After, AsJson, Limit, TokenFile, Url, connected
from fleet.cli.durations import positive
from fleet.cli.kernel_arguments import Key, read_spec
from fleet.cli.printing import show, show_page
from fleet.cli.requirements import (
    AfterAny,
    AfterAnyArray,
    AfterOk,
    AfterOkArray,
    AfterStart,
    Gpus,
    Preemptible,
    QueueTimeout,
    Ranks,
    Require,
    RetryOn,
    requirements,
)
from fleet.cli.tables import grid
from fleet.cli.text import printable
from fleet.scheduling_resources import Array

app = typer.Typer(no_args_is_help=True, help="Arrays: up to 100,000 jobs that differ in their index only.")
ArrayId = Annotated[int, typer.Argument(min=1, metavar="ARRAY", help="The array's id.")]


@app.command("submit")
def submit_array(
    spec: Annotated[Path, typer.Argument(help="A JSON file with the spec of each job; - reads stdin.")],
    size: Annotated[int, typer.Option(min=1, help="How many jobs.")],
    parallel: Annotated[int | None, typer.Option(min=1, help="At most so many at a time.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", parser=positive, metavar="SECONDS", help="Seconds until a job is stopped."),
    ] = None,
    max_retries: Annotated[int | None, typer.Option(help="Tries again after lost nodes.")] = None,
    require: Require = None,
    gpus: Gpus = None,
    ranks: Ranks = None,
    preemptible: Preemptible = False,
    retry_on: RetryOn = None,
    after: AfterStart = None,
    after_ok: AfterOk = None,
    after_any: AfterAny = None,
    after_ok_array: AfterOkArray = None,
    after_any_array: AfterAnyArray = None,
    queue_timeout_s: QueueTimeout = None,
    key: Key = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Submit an array; a command finds its index in TINYFLEET_ARRAY_INDEX."""
    with connected(url, token_file) as client:
        found = client.submit_array(
            read_spec(spec),
            size,
            parallel,
            key,
            name=name,
            priority=priority,
            timeout_s=timeout_s,
            max_retries=max_retries,
            requirements=requirements(require or [], gpus, ranks) or None,
            preemptible=preemptible or None,
            retry_on=retry_on,
            after=after,
            after_ok=after_ok,
            after_any=after_any,
            after_ok_arrays=after_ok_array,
            after_any_arrays=after_any_array,
            queue_timeout_s=queue_timeout_s,
        )
    show(
        found, Text(f"array {found.id} of {found.size} jobs; see: tinyfleet arrays show {found.id}"), as_json
    )


@app.command("list")
def list_arrays(
    limit: Limit = 30,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List arrays, newest first."""
    with connected(url, token_file) as client:
        page = client.arrays(after=after, limit=limit)
    show_page(page, _table(page.items), "No arrays.", as_json)


@app.command("show")
def show_array(
    array: ArrayId, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Show how many of an array's jobs are in which state."""
    with connected(url, token_file) as client:
        found = client.array(array)
    show(found, _table([found]), as_json)


@app.command("cancel")
def cancel_array(
    array: ArrayId, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Cancel what has not ended, and queue no more."""
    with connected(url, token_file) as client:
        found = client.cancel_array(array)
    show(found, Text(f"array {found.id} is being cancelled"), as_json)


def _table(rows: list[Array]) -> Table:
    table = grid(">id", "name", ">jobs", ">at a time", ">to come", "states", "waits for")
    for row in rows:
        states = ", ".join(f"{count} {state}" for state, count in sorted(row.states.items()))
        counts = (str(row.size), str(row.parallel), str(row.unmade))
        waits = row.error or _waits(row)
        table.add_row(str(row.id), printable(row.name or ""), *counts, printable(states), printable(waits))
    return table


def _waits(row: Array) -> str:
    """What it waits, or has waited, for."""
    found = [(name, ids) for name, ids in row.waits_for.items() if row.unmade == row.size]
    nouns = (("arrays" if name.endswith("_arrays") else "jobs", ids) for name, ids in found)
    return ", ".join(f"{noun} {', '.join(map(str, ids))}" for noun, ids in nouns)
