"""tinyfleet gc: what the server has kept for long enough."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from fleet.cli import text
from fleet.cli.connection import AsJson, TokenFile, Url, connected
from fleet.cli.printing import show
from fleet.cli.tables import grid
from fleet.collected import Collected

LISTED = 20  # blobs in the table for people


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; list what would go, and how many bytes.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Collect what has been kept for long enough and what nothing refers to. The server does so every hour too."""
    with connected(url, token_file) as client:
        found = client.gc(dry_run=dry_run)
    show(found, _shown(found), as_json)


def _shown(found: Collected) -> Group:
    table = grid("what", ">rows", ">bytes")
    for each in found.kinds:
        if each.rows:
            table.add_row(each.kind, str(each.rows), text.size(each.bytes) if each.bytes else "–")
    blobs = grid("blob", ">size")
    for blob in found.blobs[:LISTED]:
        blobs.add_row(blob.hash, text.size(blob.size))
    rest = len(found.blobs) - LISTED
    verb = "would go" if found.dry_run else "have gone"
    total = Text(f"{text.size(found.bytes)} {verb}" if found.bytes or table.row_count else f"Nothing {verb}.")
    more = [Text(f"and {rest} more; see all with --json")] if rest > 0 else []
    left = [Text("There is more: the next pass takes it.")] if found.more else []
    return Group(
        *([table] if table.row_count else []), *([blobs] if found.blobs else []), *more, total, *left
    )
