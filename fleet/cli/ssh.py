"""tinyfleet ssh: the system's ssh to a node, with the host key that the node itself reported and no other."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fleet.cli.connection import (
    EXIT_REFUSED,
    AsJson,
    TokenFile,
    Url,
    Usage,
    config_folder,
    connected,
    fail,
)
from fleet.cli.nodes import NodeName, find_node
from fleet.cli.printing import show
from fleet.cli.text import printable
from fleet.client import ApiError
from fleet.resources_access import SshHost


def ssh(
    node: NodeName,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[--] [COMMAND]...", help="Instead of a shell.")
    ] = None,
    identity: Annotated[
        Path | None, typer.Option("--identity", "-i", help="Your private key; else ssh chooses.")
    ] = None,
    forward: Annotated[
        list[str] | None, typer.Option("-L", metavar="PORT:HOST:PORT", help="As ssh takes it.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Log into a node by ssh, with a login of yours (tinyfleet access). As JSON: the command, which is not run."""
    with connected(url, token_file) as client:
        found = find_node(client, node)
        try:
            host = client.ssh_host(found.id)
        except ApiError as error:
            if error.status != 404:
                raise
            raise Usage(
                f"{printable(found.name)} takes no logins from the fleet: its agent does not look after them"
            ) from None
        words = arguments(host, known_hosts(host, config_folder(os.environ)), identity, forward or [])
    words += command or []
    if as_json:
        show({"node": host.node, "command": words}, Text(""), as_json)
        return
    program = shutil.which("ssh")
    if program is None:
        raise fail("ssh is not installed here: apt-get install openssh-client", code=EXIT_REFUSED)
    os.execv(program, words)


def arguments(host: SshHost, known: Path, identity: Path | None, forward: list[str]) -> list[str]:
    """The command line. Raises Usage for a node that cannot be logged into, with what to do about it."""
    name = printable(host.node)
    if not host.host_keys and host.authority is None:
        raise Usage(f"{name} has reported no host key yet, and none is trusted on first use: try again")
    if host.user is None:
        raise Usage(
            f"you have no login on {name}: ask for one with "
            f"tinyfleet access request --node {name} --reason WHY (see: tinyfleet access list)"
            + (f"; the node says: {printable(host.problem)}" if host.problem else "")
        )
    words = ["ssh", "-o", f'UserKnownHostsFile="{known}"', "-o", "GlobalKnownHostsFile=/dev/null"]
    words += [
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "UpdateHostKeys=no",
        "-o",
        f"HostKeyAlias={host.alias}",
    ]
    words += ["-p", str(host.port)]
    words += [] if identity is None else ["-i", str(identity)]
    for each in forward:
        words += ["-L", each]
    return [*words, "--", f"{host.user}@{host.address}"]  # what follows is no option, whatever it begins with


def known_hosts(host: SshHost, folder: Path) -> Path:
    """This node's host keys, in a file of their own. Raises Usage."""
    path = folder / "nodes" / host.alias
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text("".join(f"{line}\n" for line in host.known_hosts), encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}; make its folder writable") from error
    return path
