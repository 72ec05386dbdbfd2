"""tinyfleet keys: one's own SSH keys, with which logins are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fleet.agents.public_keys import KeyRefused, parse
from fleet.cli.connection import After, AsJson, Limit, TokenFile, Url, Usage, connected
from fleet.cli.printing import show, show_page
from fleet.cli.tables import grid
from fleet.cli.text import ago, printable
from fleet.resources_access import SshKey

app = typer.Typer(no_args_is_help=True, help="Your SSH keys.")
KeyId = Annotated[int, typer.Argument(min=1, metavar="KEY", help="The key's id.")]


@app.command("add")
def add_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The public half: a file that ends in .pub.")],
    label: Annotated[str, typer.Option(help="What to call it; else the file's comment.")] = "",
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Keep a public key: ed25519, ecdsa, a security key's, or RSA of 3072 bits or more."""
    line = public_line(file)
    with connected(url, token_file) as client:
        kept = client.add_ssh_key(line, label)
    said = (
        f"key {kept.id} is kept: {kept.fingerprint}\nnext: tinyfleet access request --pool POOL --reason WHY"
    )
    show(kept, Text(said), as_json)


def public_line(file: Path) -> str:
    """The key in a file, judged here first: a private one is not sent anywhere. Raises Usage."""
    try:
        text = file.read_text(encoding="utf-8")
        parse(text)
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{file}: it cannot be read as text; give the .pub file of your key") from error
    except KeyRefused as error:
        if "PRIVATE KEY" in text:
            raise Usage(f"{file} is the private half and was not sent: give {file}.pub") from error
        raise Usage(f"{file}: {error}") from error
    return text.strip()


@app.command("import")
def import_keys(
    forge: Annotated[
        str, typer.Argument(help="github, gitlab, codeberg, sourcehut, or a host that shows /USER.keys.")
    ],
    user: Annotated[str, typer.Argument(help="Your name there.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Take over your keys from a forge, once: what it shows later changes nothing here."""
    with connected(url, token_file) as client:
        found = client.import_ssh_keys(forge, user)
    lines = [f"key {key.id} is kept: {key.fingerprint}" for key in found.added]
    lines += [f"not kept: {printable(why)}" for why in found.refused]
    show(found, Text("\n".join(lines)), as_json)


@app.command("list")
def list_keys(
    limit: Limit = 50,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List your keys; everybody's, when you decide about logins."""
    with connected(url, token_file) as client:
        page = client.ssh_keys(after=after, limit=limit)
    show_page(page, _table(page.items), "No key yet: tinyfleet keys add ~/.ssh/id_ed25519.pub", as_json)


def _table(rows: list[SshKey]) -> Table:
    table = grid(">id", "person", "label", "type", "fingerprint", ">added")
    for row in rows:
        named = (printable(row.person), printable(row.label))
        table.add_row(str(row.id), *named, f"{row.type} {row.bits}", row.fingerprint, ago(row.created_at))
    return table


@app.command("remove")
def remove_key(key: KeyId, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Remove a key; the logins that were granted to it end."""
    with connected(url, token_file) as client:
        gone = client.remove_ssh_key(key)
    show(gone, Text(f"key {gone.id} is removed, and every login with it ends"), as_json)
