"""tinyfleet ca: a lab's own certificate authority, for a server that has no public name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fleet import authority, ssh_authority
from fleet.db import engine_for, now, session_factory, writing
from fleet.errors import FleetError
from fleet.settings import Settings

app = typer.Typer(no_args_is_help=True, help="A lab's own certificate authorities: init, issue, ssh.")
Folder = Annotated[Path, typer.Option("--dir", help="Where the authority's key and certificate are.")]


@app.command("init")
def init(
    folder: Folder = Path("tinyfleet-ca"),
    name: Annotated[str, typer.Option(help="What it is called.")] = "tinyfleet lab authority",
    permit: Annotated[
        list[str] | None,
        typer.Option(
            help="A domain or network that it may vouch for, and no other; may be given several times. "
            "Else private networks, localhost, .local, .lan, .internal and .home.arpa."
        ),
    ] = None,
) -> None:
    """Make an authority. Its sha256 is what agents pin with --ca-sha256; keep ca.key where nobody else reads it."""
    try:
        made = authority.init(folder, name, permit or authority.PERMITTED)
    except FleetError as error:
        raise _refused("init", error) from error
    typer.echo(f"{folder / 'ca.pem'}\nsha256 {made.fingerprint}")


@app.command("issue")
def issue(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Host names and addresses of the server.")
    ],
    folder: Folder = Path("tinyfleet-ca"),
    certificate: Annotated[Path, typer.Option("--cert", help="The new certificate's file.")] = Path(
        "server.pem"
    ),
    key: Annotated[Path, typer.Option(help="The new key's file, mode 0600.")] = Path("server.key"),
    days: Annotated[
        float, typer.Option(min=0.01, max=825, help="For how long it is good.")
    ] = authority.SERVER_DAYS,
) -> None:
    """Issue a server's certificate: tinyfleet serve --tls-cert server.pem --tls-key server.key."""
    try:
        found = authority.load(folder)
        authority.issue(found, names, certificate, key, days)
    except FleetError as error:
        raise _refused("issue", error) from error
    typer.echo(f"{certificate} for {', '.join(names)}, key {key}\nauthority sha256 {found.fingerprint}")


@app.command("ssh")
def ssh(
    data: Annotated[
        Path | None, typer.Option(help="Folder of the server's data.", show_default="./tinyfleet-data")
    ] = None,
) -> None:
    """Make the authority of the fleet's SSH certificates: nodes get one each, people ask for theirs. The server may run
    meanwhile."""
    environ = {**os.environ, **({} if data is None else {"TINYFLEET_DATA": str(data)})}
    settings = Settings.from_env(environ)
    try:
        with writing(session_factory(engine_for(settings.database_url))) as session:
            line = ssh_authority.make(session, settings.ssh_authority_file, now(session))
    except FleetError as error:
        raise _refused("ssh", error) from error
    typer.echo(f"{settings.ssh_authority_file}\n{line}")


def _refused(verb: str, error: FleetError) -> typer.Exit:
    typer.echo(f"tinyfleet ca {verb}: {error}", err=True)
    return typer.Exit(2)
