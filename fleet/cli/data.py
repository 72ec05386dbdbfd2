"""tinyfleet data: folders of files that nodes keep for the commands that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fleet.cli.connection import AsJson, TokenFile, Url, Usage, connected, stderr
from fleet.cli.printing import show
from fleet.cli.text import printable, size

app = typer.Typer(no_args_is_help=True, help="Data sets: folders that nodes keep for commands.")


@app.command("push")
def push_data(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What is in it becomes the data set.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Store a folder as a data set, and print its address. What is stored already is not sent again."""
    with connected(url, token_file) as client:
        if not folder.is_dir():
            raise Usage(f"{folder} is no folder")
        try:
            address = client.push_data(folder)
        except (ValueError, OSError) as error:
            raise Usage(f"{folder}: {error}") from error
        listed = client.data_list(address)
    stderr().print(Text(f"{len(listed.files)} files, {size(listed.size)}", style="dim"))
    show({"data_set": address, "files": len(listed.files), "bytes": listed.size}, Text(address), as_json)


@app.command("show")
def show_data(
    address: Annotated[str, typer.Argument(metavar="DATA-SET", help="Its address.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List what is in a data set."""
    with connected(url, token_file) as client:
        try:
            listed = client.data_list(address)
        except ValueError as error:
            raise Usage(f"{address} is no data set: {error}") from error
    table = Table("file", "size")
    for file in listed.files:
        table.add_row(printable(file.path), size(file.size))
    show(listed, table, as_json)


@app.command("list")
def list_data(as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """List the data sets."""
    with connected(url, token_file) as client:
        page = client.data_sets(limit=200)
    table = Table("data set", "files", "size", "by")
    for each in page.items:
        table.add_row(each.address, str(each.files), size(each.bytes), printable(each.created_by))
    show(page, table if page.items else Text("No data sets."), as_json)


@app.command("remove")
def remove_data(
    address: Annotated[str, typer.Argument(metavar="DATA-SET", help="Its address.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Keep a data set no more; its bytes go when nothing else needs them."""
    with connected(url, token_file) as client:
        client.remove_data_set(address)
    if as_json:
        show({"data_set": address, "removed": True}, "", as_json)
    else:
        stderr().print(Text(f"{printable(address)} is kept no more"))
