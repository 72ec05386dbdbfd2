"""Where the command finds the server and its token, and what each kind of failure exits with.

Exit codes: 0 done, 1 the job or search failed, 2 usage, 3 the server refused, 4 the server cannot be reached,
5 what was waited for had not ended when --wait-timeout had passed; it goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.text import Text

from fleet.cli.text import printable
from fleet.client import ApiError, Client, Unreachable
from fleet.loopback import exposes, is_loopback
from fleet.mistakes import Usage as Usage

Named = TypeVar("Named")

PIPED_WIDTH = 240  # columns of a table that goes to a file or a pipe, where cut text would be lost
DEFAULT_URL = "http://127.0.0.1:8000"
EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_UNFINISHED, EXIT_INTERRUPTED = (
    1,
    2,
    3,
    4,
    5,
    130,
)

Url = Annotated[str | None, typer.Option("--url", envvar="TINYFLEET_URL", help="The server's address.")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", envvar="TINYFLEET_TOKEN_FILE", help="A file that holds the bearer token."),
]
Limit = Annotated[int, typer.Option(min=1, max=200, help="How many to list.")]
After = Annotated[int | None, typer.Option(help="Continue a list: the `next` of the page before.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]


def stdout() -> Console:
    """Where results go."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def stderr() -> Console:
    """Where progress, hints and errors go."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else PIPED_WIDTH, highlight=False)


@dataclass(frozen=True)
class Address:
    """A server, the token to show it, and the only authority that may vouch for it; None: the system's."""

    url: str
    token: str
    ca_file: Path | None = None


def address(url: str | None, token_file: Path | None, environ: Mapping[str, str]) -> Address:
    """The options, else the environment, else ~/.config/tinyfleet, else a server started in this folder.

    Raises Usage for what is no URL or plain HTTP off this machine, when no token is found, and when the file named cannot be read.
    """
    folder = config_folder(environ)
    found = _checked_url(url or _optional(folder / "url") or DEFAULT_URL)
    token = _named_token(token_file, environ) or _optional(folder / "token") or _local_admin(found, environ)
    if not token:
        raise Usage(
            f"no token for {found}: give --token-file, set TINYFLEET_TOKEN or TINYFLEET_TOKEN_FILE, or write it "
            f"to {folder / 'token'}; a new server leaves the first one in admin-token in its data folder"
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise Usage("the token is none: it has characters that no token has; is the right file named?")
    return Address(found, token, _ca_file(folder, environ))


def ca_file() -> Path | None:
    """The only authority that the server is believed by, as this user has it set; None for the system's."""
    return _ca_file(config_folder(os.environ), os.environ)


def _ca_file(folder: Path, environ: Mapping[str, str]) -> Path | None:
    """TINYFLEET_CA_FILE, else ca.pem beside the token."""
    named = environ.get("TINYFLEET_CA_FILE")
    if named:
        if not Path(named).is_file():
            raise Usage(f"TINYFLEET_CA_FILE: there is no file {named}")
        return Path(named)
    kept = folder / "ca.pem"
    return kept if kept.is_file() else None


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets around no address
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise Usage(
            f"the server's address {url!r} is not an http:// or https:// URL: give --url or set TINYFLEET_URL"
        )
    if exposes(url):
        raise Usage(
            f"{url} would be shown the token in plain HTTP, which anybody on the way can read: use https://"
        )
    return url


def config_folder(environ: Mapping[str, str]) -> Path:
    """Where the command keeps what is a user's own."""
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")
    return Path(home) / "tinyfleet"


def _named_token(file: Path | None, environ: Mapping[str, str]) -> str | None:
    if file is None:
        return environ.get("TINYFLEET_TOKEN", "").strip() or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"--token-file {file}: {error}") from error


def _local_admin(url: str, environ: Mapping[str, str]) -> str | None:
    """The token of a server that was started here; sent to this machine only."""
    if not is_loopback(urlsplit(url).hostname or ""):
        return None
    return _optional(Path(environ.get("TINYFLEET_DATA", "tinyfleet-data")) / "admin-token")


def _optional(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


@contextmanager
def connected(url: str | None, token_file: Path | None) -> Iterator[Client]:
    """A client of the server; a failure ends the command with its exit code and a message on stderr."""
    try:
        where = address(url, token_file, os.environ)
        with Client(where.url, where.token, ca_file=where.ca_file) as client:
            yield client
    except Usage as error:
        raise fail(str(error), code=EXIT_USAGE) from None
    except UnicodeEncodeError as error:
        raise fail(
            f"{error.object[error.start : error.end][:8]!r} is no text in UTF-8: put bytes into a file, with --file",
            code=EXIT_USAGE,
        ) from None
    except ApiError as error:
        raise fail(*explain(error), code=EXIT_REFUSED) from None
    except Unreachable as error:
        hint = (
            "start one with: tinyfleet serve"
            if is_loopback(urlsplit(error.url).hostname or "")
            else "check --url and the network"
        )
        raise fail(str(error), hint, code=EXIT_UNREACHABLE) from None


def explain(error: ApiError) -> list[str]:
    """What was refused, then one line for each field with what is wrong with it."""
    title = str(error.problem.get("title") or "refused")
    detail = str(error.problem.get("detail") or "")
    fields = [f"{entry.get('field')}: {entry.get('message')}" for entry in error.problem.get("errors") or []]
    head = f"{title} ({error.status})"
    return [head, *fields] if fields else [f"{head}: {detail}" if detail else head]


def the_one(found: Sequence[Named], what: str, listing: str) -> Named:
    """What was found by a name that only one has. Raises Usage, which names the command that lists them, for nothing."""
    if not found:
        raise Usage(f"there is no {printable(what)}; see: tinyfleet {listing}")
    return found[0]


def fail(*lines: str, code: int) -> typer.Exit:
    """Print the lines on stderr, the first as the error; returns the exit to raise."""
    first, *rest = (printable(line) for line in lines)
    console = stderr()
    console.print(Text.assemble(("error: ", "bold red"), first), soft_wrap=True)
    for line in rest:
        console.print(Text(f"  {line}"), soft_wrap=True)
    return typer.Exit(code)
