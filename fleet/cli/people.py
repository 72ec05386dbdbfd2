"""tinyfleet people: take somebody out everywhere."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from fleet.cli.connection import AsJson, TokenFile, Url, connected
from fleet.cli.printing import show
from fleet.cli.text import printable

app = typer.Typer(no_args_is_help=True, help="People.")


@app.callback()
def people() -> None:
    """People."""


@app.command("remove")
def remove_person(
    name: Annotated[str, typer.Argument(help="Whose tokens bear this name.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """End every token of a person and all that were minted with them, cancel what they have queued or running, and end
    their logins on every node."""
    with connected(url, token_file) as client:
        gone = client.remove_person(name)
    ended = f"{gone.tokens} tokens, {gone.jobs} jobs, {gone.arrays} arrays, {gone.searches} searches, {gone.keys} SSH keys, {gone.grants} logins"
    said = f"{printable(gone.name)} is removed: {ended}; paused: {gone.crons} crons, {gone.webhooks} webhooks"
    show(gone, Text(said), as_json)
