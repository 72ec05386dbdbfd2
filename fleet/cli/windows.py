"""tinyfleet windows: nodes that are reserved for a tenant, or in maintenance."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fleet.cli.connection import After, AsJson, Limit, TokenFile, Url, connected
from fleet.cli.printing import show, show_page
from fleet.cli.tables import grid
from fleet.cli.text import printable
from fleet.scheduling_resources import Window

app = typer.Typer(no_args_is_help=True, help="Nodes that are reserved for a tenant, or in maintenance.")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def later(given: str) -> float:
    """Epoch seconds of an RFC 3339 time, or of so long from now (90s, 30m, 2h, 7d)."""
    unit = _UNITS_S.get(given[-1:])
    if unit is not None and given[:-1].isdecimal():
        return time.time() + int(given[:-1]) * unit
    try:
        return datetime.fromisoformat(given).timestamp()
    except ValueError:
        raise typer.BadParameter(
            f"{given!r} is neither a time, as 2026-11-26T10:00:00Z, nor as 2h from now"
        ) from None


Nodes = Annotated[list[str], typer.Argument(metavar="NODE...", help="Names of nodes.")]
Until = Annotated[str, typer.Option("--until", metavar="TIME", help="A time, or as 4h from now.")]
Since = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="A time, or as 2h from now; else now.")
]
Reason = Annotated[str, typer.Option(help="Why; shown to those who wait.")]


@app.command("reserve")
def reserve(
    tenant: Annotated[str, typer.Argument(help="Whose jobs alone begin there.")],
    nodes: Nodes,
    until: Until,
    since: Since = None,
    reason: Reason = "",
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Keep nodes for a tenant; what runs there may end."""
    starts_at = later(since) if since else None
    with connected(url, token_file) as client:
        found = client.add_window(nodes, later(until), tenant=tenant, starts_at=starts_at, reason=reason)
    show(found, _table([found]), as_json)


@app.command("maintain")
def maintain(
    nodes: Nodes,
    until: Until,
    since: Since = None,
    reason: Reason = "",
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Keep nodes free for work on them; what runs there at the start is queued again."""
    starts_at = later(since) if since else None
    with connected(url, token_file) as client:
        found = client.add_window(nodes, later(until), starts_at=starts_at, reason=reason)
    show(found, _table([found]), as_json)


@app.command("list")
def list_windows(
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List windows that are not over."""
    with connected(url, token_file) as client:
        page = client.windows(after=after, limit=limit)
    show_page(page, _table(page.items), "No windows.", as_json)


@app.command("cancel")
def cancel_window(
    window: Annotated[int, typer.Argument(min=1, metavar="WINDOW", help="The window's id.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Keep the nodes no longer."""
    with connected(url, token_file) as client:
        found = client.cancel_window(window)
    show(found, Text(f"window {found.id} is cancelled"), as_json)


def _table(rows: list[Window]) -> Table:
    table = grid(">id", "kind", "for", "nodes", "from", "until", "why")
    for row in rows:
        texts = (row.kind, row.tenant or "", ", ".join(row.nodes), row.starts_at, row.ends_at, row.reason)
        table.add_row(str(row.id), *(printable(each) for each in texts))
    return table
