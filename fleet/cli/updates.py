"""tinyfleet updates: which version nodes run, and how they get there."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from fleet.cli import text
from fleet.cli.connection import AsJson, TokenFile, Url, connected
from fleet.cli.durations import span
from fleet.cli.printing import show
from fleet.cli.tables import facts, grid, state
from fleet.cli.text import printable
from fleet.update_resources import Updates

app = typer.Typer(no_args_is_help=True, help="Which version nodes run: status, set, promote, pause, resume.")


@app.command("status")
def show_status(as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Say which version is wanted, and how far each node has come."""
    with connected(url, token_file) as client:
        found = client.updates()
    show(found, shown(found), as_json)


@app.command("set")
def set_version(
    version: Annotated[str, typer.Argument(help="A release that the server has: tinyfleet release add.")],
    canary: Annotated[
        list[str] | None, typer.Option(help="A node that goes first; may be given several times.")
    ] = None,
    canaries: Annotated[
        int | None, typer.Option(min=1, help="How many go first, where none are named.")
    ] = None,
    soak: Annotated[
        float | None,
        typer.Option(
            parser=span, metavar="TIME", help="How long those run it before the others get it, as 10m."
        ),
    ] = None,
    at_once: Annotated[
        int | None, typer.Option(min=1, help="How many nodes change at the same time.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Have every node run a version: canaries first, each node when it runs nothing.

    One that does not report with it within a minute returns to the version before, and that pauses all.
    """
    with connected(url, token_file) as client:
        found = client.set_updates(version, canary=canary, canaries=canaries, soak_s=soak, at_once=at_once)
    show(found, shown(found), as_json)


@app.command("promote")
def promote(as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Give the version to all nodes now, without waiting for the canaries any longer."""
    with connected(url, token_file) as client:
        found = client.promote_updates()
    show(found, Text(f"every node may have {found.wanted} now"), as_json)


@app.command("pause")
def pause(
    reason: Annotated[str | None, typer.Option(help="Why; it stands in the status.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Offer nobody anything. Nodes that are at it finish."""
    with connected(url, token_file) as client:
        found = client.pause_updates(True, reason)
    show(found, Text(f"{found.wanted} is paused"), as_json)


@app.command("resume")
def resume(as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Go on. Nodes that went back stay as they are; set the version again to try them again."""
    with connected(url, token_file) as client:
        found = client.pause_updates(False)
    show(found, Text(f"{found.wanted} goes on"), as_json)


def shown(found: Updates) -> RenderableType:
    """The wanted version, and a line for each node."""
    table = grid("node", "version", "ring", "state", "note")
    for node in found.nodes:
        version = Text(printable(node.version), style="green" if node.version == found.wanted else "")
        table.add_row(
            Text(printable(node.name), style="bold"),
            version,
            node.ring,
            state(node.state),
            printable(node.note),
        )
    first = ", ".join(found.canary) or f"{found.canaries} node{'s' if found.canaries > 1 else ''}"
    pairs: list[tuple[str, RenderableType | None]] = [
        ("wanted", found.wanted or "nothing: each node stays as it is"),
        ("stage", found.stage and f"{found.stage}, since {text.ago(found.since)}"),
        ("paused", Text(printable(found.reason), style="red") if found.paused else ""),
        (
            "canary",
            found.wanted and f"{first}, then the others after {found.soak_s:g} s, {found.at_once} at once",
        ),
    ]
    return Group(facts(pairs), "", table)
