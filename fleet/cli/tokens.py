"""tinyfleet tokens, join-token and whoami: who may ask, and how a node joins. Secrets go to stdout or a 0600 file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fleet.cli import tables
from fleet.cli.connection import After, AsJson, Limit, TokenFile, Url, Usage, connected, stderr
from fleet.cli.durations import positive
from fleet.cli.printing import show, show_page
from fleet.cli.text import printable

app = typer.Typer(no_args_is_help=True, help="Bearer tokens.")
join_app = typer.Typer(no_args_is_help=True, help="One-use tokens with which a node joins.")
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the secret to this new file, mode 0600.")
]
Lifetime = Annotated[
    float | None, typer.Option("--ttl", parser=positive, metavar="SECONDS", help="Seconds until it expires.")
]


@app.command("list")
def list_tokens(
    limit: Limit = 50,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List the tokens, without their secrets."""
    with connected(url, token_file) as client:
        page = client.tokens(after=after, limit=limit)
    show_page(page, tables.tokens(page.items), "No tokens.", as_json)


@app.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Whose it is or what it is for.")],
    role: Annotated[str, typer.Option(help="admin, operator, user or viewer.")] = "user",
    scope: Annotated[
        list[str] | None, typer.Option(help="Give only this permission of the role; may be repeated.")
    ] = None,
    ttl_s: Lifetime = None,
    output: Output = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Make a token; its secret is shown this once."""
    with connected(url, token_file) as client:
        minted = client.mint_token(name, role=role, ttl_s=ttl_s, scopes=scope)
        _keep(minted.secret, output)
    show(minted, Text(minted.secret if output is None else f"written to {output}"), as_json)


@app.command("revoke")
def revoke_token(
    token: Annotated[int, typer.Argument(min=1, metavar="TOKEN", help="The token's id.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """End a token at once."""
    with connected(url, token_file) as client:
        client.revoke_token(token)
    if as_json:
        show({"id": token, "revoked": True}, "", as_json)
    else:
        stderr().print(Text(f"token {token} is revoked"))


@join_app.command("create")
def create_join_token(
    ttl_s: Lifetime = None,
    pool: Annotated[str | None, typer.Option(help="The pool that its node will be in.")] = None,
    site: Annotated[str | None, typer.Option(help="The building that its node stands in.")] = None,
    rack: Annotated[str | None, typer.Option(help="The cabinet there; it is made if it is new.")] = None,
    output: Output = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Make a join token; with it one node enrolls, once."""
    if (site is None) != (rack is None):
        raise Usage("--site, --rack: give both, or neither")
    place = None if site is None or rack is None else (site, rack)
    with connected(url, token_file) as client:
        minted = client.join_token(ttl_s, pool, place)
        _keep(minted.secret, output)
    show(minted, Text(minted.secret if output is None else f"written to {output}"), as_json)


def _keep(secret: str, output: Path | None) -> None:
    """Write the secret to a file nobody else can read. Raises Usage when the file exists or cannot be made."""
    if output is None:
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{secret}\n")
    except OSError as error:
        raise Usage(
            f"--output {output}: {error.strerror}; the token was made: revoke it or make another"
        ) from error


def whoami(as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Show who the server takes you for."""
    with connected(url, token_file) as client:
        found = client.whoami()
    line = f"{found.kind} {printable(found.name)}, role {found.role}, tenant {printable(found.tenant)}"
    show(found, Text(line), as_json)
