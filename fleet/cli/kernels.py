"""tinyfleet kernels: the tuned kernels, their source, and what was quarantined."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from fleet.cli import tables
from fleet.cli.connection import After, AsJson, Limit, TokenFile, Url, connected, stderr
from fleet.cli.durations import moment
from fleet.cli.nodes import find_node
from fleet.cli.printing import show, show_page

app = typer.Typer(no_args_is_help=True, help="The best kernels found so far.")
KernelId = Annotated[int, typer.Argument(min=1, metavar="KERNEL", help="The tuned kernel's id.")]


@app.command("list")
def list_kernels(
    limit: Limit = 30,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List the tuned kernels."""
    with connected(url, token_file) as client:
        page = client.kernels(after=after, limit=limit)
    show_page(page, tables.kernels(page.items), "No kernel was tuned yet: tinyfleet searches run.", as_json)


@app.command("show")
def show_kernel(
    kernel: KernelId,
    source: Annotated[
        bool, typer.Option("--source", help="Print the C source instead; with --json, beside the rest.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Show a tuned kernel, or print its source."""
    with connected(url, token_file) as client:
        text = client.kernel_source(kernel) if source else None
        if text is not None and not as_json:
            typer.echo(text, nl=False)
            return
        found = client.kernel(kernel)
    document = found.model_dump(mode="json") | ({} if text is None else {"source": text})
    show(document, tables.kernel(found), as_json)


@app.command("purge")
def purge_kernels(
    node: Annotated[str, typer.Option(help="The node, by name or id, whose word is taken back.")],
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Since when: 2026-11-26T10:00:00Z, or so long ago, as 2h. Else always."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which kernels it would be.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Take out the tuned kernels that a node found, timed or confirmed, and what is in quarantine by its word."""
    with connected(url, token_file) as client:
        purged = client.purge_kernels(find_node(client, node).id, moment(since), dry_run)
    if as_json:
        show(purged, "", as_json)
        return
    verb = "would go" if dry_run else "are gone"
    show(purged, tables.kernels(purged.kernels), as_json)
    stderr().print(
        Text(f"{len(purged.kernels)} tuned kernels and {len(purged.quarantined)} in quarantine {verb}")
    )


@app.command("quarantined")
def list_quarantined(
    limit: Limit = 30,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List candidates that crashed, hung or gave wrong results."""
    with connected(url, token_file) as client:
        page = client.quarantine(after=after, limit=limit)
    show_page(page, tables.quarantine(page.items), "Nothing was quarantined.", as_json)
