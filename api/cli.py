"""The server's verbs of the `tinyfleet` command."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from api import authority_verbs, release_verbs
from api.audit_chain import audit_verdict, current_anchor
from api.key_rotation import rotate_keys
from api.server import serve as run_server
from api.settings import Settings, checked_url
from fleet.errors import InvalidSpec
from fleet.loopback import is_loopback

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(authority_verbs.app, name="ca")
app.add_typer(release_verbs.app, name="release")

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
    public_url: Annotated[
        str | None,
        typer.Option(
            help="Where nodes reach this server; else as whoever asks for the installer reached it."
        ),
    ] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Print a line for each request.")] = False,
) -> None:
    """Run the server: API, controllers and web console in one process.

    The first start makes the admin token and keeps it in the data folder, in a file that only its owner can read.
    """
    try:
        settings = _settings(host, port, data)
        settings = dataclasses.replace(
            settings,
            ready_file=ready_file,
            behind_tls_proxy=behind_tls_proxy,
            access_log=access_log,
            public_url=settings.public_url if public_url is None else checked_url(public_url),
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


audit_app = typer.Typer(no_args_is_help=True, help="The chain over the audit: verify, anchor.")
app.add_typer(audit_app, name="audit")
Data = Annotated[
    Path | None, typer.Option(help="Folder of the server's data.", show_default="./tinyfleet-data")
]


@audit_app.command("verify")
def verify_audit(
    data: Data = None,
    anchors: Annotated[
        list[Path] | None, typer.Option(help="A file of anchors that was kept elsewhere; may be repeated.")
    ] = None,
) -> None:
    """Look through the whole audit for rows that were changed, taken out or cut off. Exits with 1 on a finding.

    The anchors in the data folder are held against it too; whoever could change the audit could change these.
    """
    try:
        verdict = audit_verdict(_settings(None, None, data).fleet, anchors or [])
    except InvalidSpec as error:
        typer.echo(f"tinyfleet audit: {error}", err=True)
        raise typer.Exit(2) from error
    for problem in verdict.problems:
        typer.echo(problem)
    if verdict.problems:
        raise typer.Exit(1)
    typer.echo(f"the audit is whole: {verdict.rows} rows")


@audit_app.command("anchor")
def print_anchor(data: Data = None) -> None:
    """Print the chain's newest seal: kept elsewhere, it shows later that nothing before it was cut off."""
    found = current_anchor(_settings(None, None, data).fleet)
    typer.echo("nothing is sealed yet" if found is None else found, err=found is None)


keys_app = typer.Typer(no_args_is_help=True, help="The keys of the secrets at rest.")
app.add_typer(keys_app, name="secret-keys")


@keys_app.callback()
def secret_keys() -> None:
    """The keys of the secrets at rest."""


@keys_app.command("rotate")
def rotate_secret_keys(data: Data = None) -> None:
    """Make a new key, encrypt every secret with it, and forget the older keys. The server may run meanwhile."""
    try:
        rotated = rotate_keys(_settings(None, None, data).fleet, os.environ)
    except InvalidSpec as error:
        typer.echo(f"tinyfleet secret-keys: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{rotated} secrets are encrypted with the new key")
