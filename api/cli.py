"""The server's verbs of the `tinyfleet` command."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from api import authority_verbs
from api.server import serve as run_server
from api.settings import Settings, is_loopback
from fleet.errors import InvalidSpec

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(authority_verbs.app, name="ca")

PROXIED = (
    "Warning: listening on {host} without TLS, as you said because a proxy in front of it ends TLS. Whoever reaches this "
    "address past the proxy reads tokens in clear text: let nobody but the proxy connect to it."
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
    tls_cert: Annotated[
        Path | None, typer.Option(help="The server's certificate, in PEM, with those that vouch for it.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, in PEM, mode 0600.")] = None,
    behind_tls_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-tls-proxy", help="Listen off loopback without TLS: a proxy in front of it ends TLS."
        ),
    ] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="Print a line for each request.")] = False,
) -> None:
    """Run the server: API, controllers and web console in one process.

    The first start prints the admin token, once, and keeps it in the data folder.
    """
    try:
        settings = _settings(host, port, data)
        settings = dataclasses.replace(
            settings,
            ready_file=ready_file,
            behind_tls_proxy=behind_tls_proxy,
            access_log=access_log,
            tls_cert=tls_cert or settings.tls_cert,
            tls_key=tls_key or settings.tls_key,
        )
        if behind_tls_proxy and settings.tls_cert is None and not is_loopback(settings.host):
            typer.echo(PROXIED.format(host=settings.host), err=True)
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
