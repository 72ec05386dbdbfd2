"""tinyfleet node bootstrap: a bare Debian or Ubuntu host becomes a node, over SSH, from the operator's own machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fleet.bootstrap import Wanted, bootstrap
from fleet.cli.connection import (
    EXIT_REFUSED,
    AsJson,
    TokenFile,
    Url,
    Usage,
    ca_file,
    connected,
    fail,
    stderr,
)
from fleet.cli.printing import show
from fleet.client import ApiError, Client
from fleet.errors import FleetError
from fleet.ssh import Login, connect

_JOINS_S, _LOOK_S = 120.0, 1.0


def bootstrap_node(
    host: Annotated[str, typer.Argument(metavar="HOST", help="The host's name or address.")],
    host_key: Annotated[
        str, typer.Option(help="The fingerprint of its key, SHA256:…; without it you are told what it shows.")
    ] = "",
    user: Annotated[str, typer.Option(help="As whom to log in.")] = "root",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 22,
    key: Annotated[Path | None, typer.Option(help="A private key's file; else ssh-agent's.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="A file with the password to log in with.")
    ] = None,
    sudo_password_file: Annotated[
        Path | None, typer.Option(help="A file with the password for sudo.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The node's name; else the host's.")] = None,
    pool: Annotated[str | None, typer.Option(help="The pool that it joins.")] = None,
    server: Annotated[
        str | None, typer.Option(help="The control plane's address as the host reaches it.")
    ] = None,
    logins: Annotated[
        bool, typer.Option("--logins", help="People can be let in by SSH (tinyfleet access).")
    ] = False,
    folder: Annotated[str, typer.Option("--root", hidden=True)] = "",
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Make a bare host a node: packages, agent, service, until the fleet sees it. Run again, it goes on where it was."""
    login = Login(
        user,
        key,
        _secret("--password-file", password_file),
        _secret("--sudo-password-file", sudo_password_file),
    )
    called = name or host.split(".")[0]
    done = []
    with connected(url, token_file) as client:
        authority = ca_file()
        wanted = Wanted(
            server=server or client.base_url,
            name=called,
            script=client.install_script(),
            token=lambda: client.join_token(pool=pool).secret,
            seen=partial(_seen, client),
            ca=b"" if authority is None else authority.read_bytes(),
            logins=logins,
            root=folder,
        )
        try:
            with connect(host, port, host_key, login) as there:
                for outcome in bootstrap(there, wanted):
                    done.append({"step": outcome.step, "state": outcome.state})
                    stderr().print(Text(f"{outcome.step}: {outcome.state}", style="dim"))
        except FleetError as error:
            raise fail(
                str(error), "run the same again when it is mended: it goes on there", code=EXIT_REFUSED
            ) from error
    show({"node": called, "steps": done}, Text(f"{called} is a node"), as_json)


def _secret(option: str, file: Path | None) -> str:
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{option} {file}: it cannot be read as text") from error


def _seen(client: Client, node_id: Callable[[], int | None]) -> bool:
    """Whether the fleet sees the node within some time; asked again, it waits again."""
    deadline, pause = time.monotonic() + _JOINS_S, threading.Event()
    while time.monotonic() < deadline:
        known = node_id()
        if known is not None and _is_online(client, known):
            return True
        pause.wait(_LOOK_S)
    return False


def _is_online(client: Client, node_id: int) -> bool:
    try:
        return client.node(node_id).contact == "online"
    except ApiError as error:
        if error.status == 404:  # it has joined another fleet
            return False
        raise
