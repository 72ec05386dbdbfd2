"""The server's verbs of the `tinyfleet` command."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from api.server import serve as run_server
from api.settings import Settings, is_loopback
from fleet.errors import InvalidSpec

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

INSECURE = (
    "Warning: listening on {host} without TLS. Tokens and results cross the network in clear text, and whoever "
    "reads them can do what you can. Use this only on a network that you trust."
)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", show_default="8000")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of database, blobs and admin token.", show_default="./tinyfleet-data"),
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the URL there, as JSON, once the server listens.")
    ] = None,
    insecure_listen: Annotated[
        bool, typer.Option("--insecure-listen", help="Allow an address that others can reach, without TLS.")
    ] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="Print a line for each request.")] = False,
) -> None:
    """Run the server: API, controllers and web console in one process.

    The first start prints the admin token, once, and keeps it in the data folder.
    """
    try:
        settings = _settings(host, port, data)
        settings = dataclasses.replace(
            settings, ready_file=ready_file, insecure_listen=insecure_listen, access_log=access_log
        )
        if insecure_listen and not is_loopback(settings.host):
            typer.echo(INSECURE.format(host=settings.host), err=True)
        run_server(settings, typer.echo)
    except InvalidSpec as error:
        typer.echo(f"tinyfleet serve: {error}", err=True)
        raise typer.Exit(2) from error


def _settings(host: str | None, port: int | None, data: Path | None) -> Settings:
    """The environment's settings, with what was given on the command line in their place."""
    given = {"TINYFLEET_HOST": host, "TINYFLEET_PORT": port, "TINYFLEET_DATA": data}
    return Settings.from_env(
        {**os.environ, **{name: str(value) for name, value in given.items() if value is not None}}
    )
