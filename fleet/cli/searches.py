"""tinyfleet searches: start a BEAM search, watch it, look at what it tried."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.text import Text

from fleet.cli import tables, waiting
from fleet.cli.connection import After, AsJson, Limit, TokenFile, Url, Usage, connected, stderr
from fleet.cli.durations import WaitTimeout, positive
from fleet.cli.kernel_arguments import Arch, Dtype, Key, Shape, Threads, kernel
from fleet.cli.printing import exit_by_state, patiently, show, show_page

app = typer.Typer(no_args_is_help=True, help="Search for the fastest schedule of a kernel.")
CANDIDATES_SHOWN = 10
SearchId = Annotated[int, typer.Argument(min=1, metavar="SEARCH", help="The search's id.")]


@app.command("run")
def run_search(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="gemm, reduce, copy, elementwise, or a kernel's JSON file.")
    ],
    shape: Shape = None,
    budget_s: Annotated[
        float, typer.Option("--budget", parser=positive, metavar="SECONDS", help="Seconds to search for.")
    ] = 30.0,
    width: Annotated[int, typer.Option(min=1, help="How many schedules survive a round.")] = 4,
    threads: Threads = 1,
    dtype: Dtype = "float32",
    arch: Arch = None,
    per_round: Annotated[
        int | None, typer.Option(min=1, help="How many candidates a round measures.")
    ] = None,
    max_rounds: Annotated[int | None, typer.Option(min=1, help="Stop after so many rounds.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the inputs.")] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Search although a tuned kernel is known; start from it.")
    ] = False,
    key: Key = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    wait_timeout: WaitTimeout = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Search with BEAM for the fastest verified schedule, and watch. A kernel tuned before is answered at once."""
    with connected(url, token_file) as client:
        if detach and wait_timeout is not None:
            raise Usage("--detach does not wait: give it or --wait-timeout, not both")
        search = client.run_search(
            kernel(what, shape, dtype),
            arch=arch,
            width=width,
            budget_s=budget_s,
            threads=threads,
            per_round=per_round,
            max_rounds=max_rounds,
            seed=seed,
            refresh=refresh or None,
            idempotency_key=key,
        )
        if not detach:
            wait = partial(waiting.wait_for_search, client, search, stderr(), wait_timeout)
            search = patiently(search, wait, as_json)
    follow = Text(f"search {search.id} is {search.state}; look at it: tinyfleet searches show {search.id}")
    show(search, follow if detach else tables.search(search, [], []), as_json)
    if not detach:
        exit_by_state(search)


@app.command("list")
def list_searches(
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
    limit: Limit = 30,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List searches, newest first."""
    with connected(url, token_file) as client:
        page = client.searches(state=state, after=after, limit=limit)
    show_page(page, tables.searches(page.items), "No searches.", as_json)


@app.command("show")
def show_search(
    search: SearchId,
    candidates: Annotated[
        int, typer.Option(min=1, max=200, help="How many candidates to show.")
    ] = CANDIDATES_SHOWN,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Show a search: its best, its rounds and its fastest candidates."""
    with connected(url, token_file) as client:
        found = client.search(search)
        rounds = client.rounds(search)
        tried = client.candidates(search, limit=candidates)
    document = {
        **found.model_dump(mode="json"),
        "round_list": _dump(rounds),
        "candidates": _dump(tried),
    }
    show(document, tables.search(found, rounds, tried), as_json)


def _dump(rows: Sequence[BaseModel]) -> list[dict[str, Any]]:
    return [row.model_dump(mode="json") for row in rows]


@app.command("cancel")
def cancel_search(
    search: SearchId, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Stop a search; what it measured stays."""
    with connected(url, token_file) as client:
        changed = client.cancel_search(search)
    show(changed, Text(f"search {changed.id} is {changed.state}"), as_json)
