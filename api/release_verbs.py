"""tinyfleet release: the releases that this server has for its nodes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from api.settings import Settings
from fleet import releases
from fleet.errors import FleetError

app = typer.Typer(
    no_args_is_help=True, help="The releases that this server has for its nodes: add, list, remove."
)
Data = Annotated[
    Path | None, typer.Option(help="Folder of the server's data.", show_default="./tinyfleet-data")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]


@app.command("add")
def add(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `make release` built.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Take a release in. The first one says which key signs the others; nodes check each by themselves too."""
    try:
        found = releases.add(folder, _folder(data))
    except FleetError as error:
        raise _refused("add", error) from error
    said = f"release {found.version} for {', '.join(found.kinds)}: {found.files} files, {found.bytes / 1e6:.1f} MB"
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else said)


@app.command("list")
def list_releases(data: Data = None, as_json: AsJson = False) -> None:
    """The newest first."""
    found = releases.listed(_folder(data))
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    for each in found:
        typer.echo(f"{each.version}  {', '.join(each.kinds)}  {each.bytes / 1e6:.1f} MB")
    if not found:
        typer.echo("there is none: make release, then tinyfleet release add dist/release/VERSION", err=True)


@app.command("remove")
def remove(
    version: Annotated[str, typer.Argument(help="Which one.")], data: Data = None, as_json: AsJson = False
) -> None:
    """Forget a release. Nodes that have it keep it."""
    try:
        releases.remove(_folder(data), version)
    except FleetError as error:
        raise _refused("remove", error) from error
    typer.echo(json.dumps({"removed": version}) if as_json else f"release {version} is gone")


def _folder(data: Path | None) -> Path:
    given = {} if data is None else {"TINYFLEET_DATA": str(data)}
    return Settings.from_env({**os.environ, **given}).fleet.releases


def _refused(verb: str, error: FleetError) -> typer.Exit:
    typer.echo(f"tinyfleet release {verb}: {error}", err=True)
    return typer.Exit(2)
