"""tinyfleet secrets: what the control plane uses for a tenant. Values come from stdin or a file, never from argv."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fleet.cli.connection import AsJson, TokenFile, Url, Usage, connected, stderr
from fleet.cli.printing import show
from fleet.cli.text import printable

app = typer.Typer(no_args_is_help=True, help="Secrets: kept encrypted, shown to nobody.")
SecretName = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, dots, dashes.")]


@app.command("set")
def set_secret(
    name: SecretName,
    file: Annotated[Path | None, typer.Option(help="A file that holds the value; else stdin.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Keep a secret, in place of its value before. One line break at the end is left out."""
    with connected(url, token_file) as client:
        kept = client.put_secret(name, _value(file))
    show(kept, Text(f"{printable(kept.name)} is kept, version {kept.version}"), as_json)


def _value(file: Path | None) -> str:
    try:
        return (sys.stdin.read() if file is None else file.read_text(encoding="utf-8")).removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"--file {file}: it cannot be read as text; give a file in UTF-8") from error


@app.command("list")
def list_secrets(as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """List the secrets, without their values."""
    with connected(url, token_file) as client:
        page = client.secrets(limit=200)
    table = Table("name", "version", "by")
    for each in page.items:
        table.add_row(printable(each.name), str(each.version), printable(each.created_by))
    show(page, table if page.items else Text("No secrets."), as_json)


@app.command("remove")
def remove_secret(
    name: SecretName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Forget a secret; what uses it fails from then on."""
    with connected(url, token_file) as client:
        client.remove_secret(name)
    if as_json:
        show({"name": name, "removed": True}, "", as_json)
    else:
        stderr().print(Text(f"{printable(name)} is forgotten"))
