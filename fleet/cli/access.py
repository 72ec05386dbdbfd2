"""tinyfleet access: ask for a login on a pool or a node, decide about it, end it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fleet.cli.connection import (
    EXIT_FAILED,
    EXIT_UNFINISHED,
    After,
    AsJson,
    Limit,
    TokenFile,
    Url,
    Usage,
    config_folder,
    connected,
    fail,
    stderr,
)
from fleet.cli.durations import positive
from fleet.cli.printing import show, show_page
from fleet.cli.tables import facts, grid
from fleet.cli.text import ago, printable, seconds
from fleet.client import Client
from fleet.resources_access import Grant, GrantPlace

app = typer.Typer(no_args_is_help=True, help="Logins on nodes: request, approve, revoke.")
GrantId = Annotated[int, typer.Argument(min=1, metavar="LOGIN", help="The login's id.")]
Days = Annotated[float | None, typer.Option("--days", parser=positive, metavar="DAYS", help="For how long.")]
WaitFor = Annotated[
    float,
    typer.Option(
        "--wait-timeout", parser=positive, metavar="SECONDS", help="Wait at most so long, then exit 5."
    ),
]
_DAY_S = 86_400.0
_PARK_S = 20.0
_OVER = frozenset({"denied", "revoked", "expired"})


@app.command("request")
def request_access(
    reason: Annotated[str, typer.Option(help="What for: whoever decides reads it.")],
    pool: Annotated[str | None, typer.Option(help="On every node of this pool.")] = None,
    node: Annotated[str | None, typer.Option(help="On this node, by name or id.")] = None,
    days: Days = None,
    key: Annotated[
        int | None, typer.Option(min=1, help="With this key of yours; else with your only one.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is decided, and show how to log in.")
    ] = False,
    wait_timeout: WaitFor = 86_400.0,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Ask for a login; an administrator decides."""
    if (pool is None) == (node is None):
        raise Usage("give --pool or --node, one of them")
    with connected(url, token_file) as client:
        where = int(node) if node is not None and node.isdigit() else node
        duration_s = None if days is None else days * _DAY_S
        asked = client.request_grant(reason, pool=pool, node=where, key=key, duration_s=duration_s)
        if wait:
            stderr().print(Text(f"login {asked.id} is asked for; waiting for a decision", style="dim"))
            asked = _until(client, asked, _can_log_in, wait_timeout)
            _keep_known_hosts(client, _known_hosts())
    show(asked, _shown(asked), as_json)
    if asked.state == "denied":
        raise fail(f"login {asked.id} was denied: {printable(asked.end_reason)}", code=EXIT_FAILED)
    if wait and not _can_log_in(asked):
        raise fail(
            "it is not decided yet", f"look again: tinyfleet access show {asked.id}", code=EXIT_UNFINISHED
        )


def _can_log_in(grant: Grant) -> bool:
    """Some node lets the key in, or it is over."""
    return grant.state in _OVER or any(place.ssh for place in grant.nodes)


def _until(client: Client, grant: Grant, done: object, within_s: float) -> Grant:
    """Wait until `done(grant)`; after `within_s` seconds, as it then is."""
    assert callable(done)
    deadline = time.monotonic() + within_s
    while not done(grant) and (left := deadline - time.monotonic()) > 0:
        grant = client.grant(grant.id, wait=min(_PARK_S, left), seen=grant.version)
    return grant


@app.command("list")
def list_access(
    state: Annotated[
        str | None, typer.Option(help="Only those that are requested, active, revoking, ….")
    ] = None,
    limit: Limit = 50,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List your logins; everybody's, when you decide about them."""
    with connected(url, token_file) as client:
        page = client.grants(state, after=after, limit=limit)
    nothing = "No login was asked for: tinyfleet access request --pool POOL --reason WHY"
    show_page(page, _table(page.items), nothing, as_json)


@app.command("show")
def show_access(
    login: GrantId, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Show a login: how it stands on each node, and the command that logs in."""
    with connected(url, token_file) as client:
        found = client.grant(login)
        if any(place.ssh for place in found.nodes):
            _keep_known_hosts(client, _known_hosts())
    show(found, _shown(found), as_json)


@app.command("approve")
def approve_access(
    login: GrantId, days: Days = None, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Grant a login, for as long as was asked or less."""
    with connected(url, token_file) as client:
        done = client.approve_grant(login, None if days is None else days * _DAY_S)
    show(done, Text(f"login {done.id} of {printable(done.person)} is granted until {done.until}"), as_json)


@app.command("deny")
def deny_access(
    login: GrantId,
    reason: Annotated[str, typer.Option(help="Why: whoever asked reads it.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Refuse a login."""
    with connected(url, token_file) as client:
        done = client.deny_grant(login, reason)
    show(done, Text(f"login {done.id} of {printable(done.person)} is denied"), as_json)


@app.command("revoke")
def revoke_access(
    login: GrantId,
    reason: Annotated[str, typer.Option(help="Why.")],
    wait_timeout: WaitFor = 10.0,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """End a login with its sessions, or take a request back; waits for each node's word that it is gone."""
    with connected(url, token_file) as client:
        done = client.revoke_grant(login, reason)
        done = _until(client, done, lambda grant: grant.state in _OVER, wait_timeout)
    show(done, Text("\n".join(_gone(done))), as_json)
    if done.state == "revoking":
        raise fail("not every node has said that it is gone", code=EXIT_UNFINISHED)


def _gone(grant: Grant) -> list[str]:
    """A line for each node, and one for the whole."""
    lines = []
    for place in grant.nodes:
        if place.gone_after_s is not None:
            lines.append(f"gone from {printable(place.node)} in {seconds(place.gone_after_s)}")
        else:
            end = f"; it refuses the key by itself from {grant.until} on" if grant.until else ""
            why = f" ({printable(place.problem)})" if place.problem else ""
            lines.append(f"{printable(place.node)} has not said that it is gone{why}{end}")
    return [*lines, f"login {grant.id} is {grant.state}"]


@app.command("certificate")
def certify_access(
    login: GrantId,
    key: Annotated[Path, typer.Option(help="The private key's file: the certificate is put beside it.")],
    hours: Annotated[
        float | None, typer.Option(parser=positive, metavar="HOURS", help="For how long; 8 at most.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Get a certificate for a login's key, where the fleet has an SSH authority."""
    with connected(url, token_file) as client:
        made = client.certify_grant(login, None if hours is None else hours * 3600)
    file = key.with_name(f"{key.name}-cert.pub")
    try:
        file.write_text(made.certificate + "\n", encoding="utf-8")
    except OSError as error:
        raise Usage(f"--key {key}: {error.strerror}; give the file of your key") from error
    show(made, Text(f"{file}: serial {made.serial}, until {made.until}"), as_json)


@app.command("known-hosts")
def known_hosts(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to; else beside the token.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Write the nodes' host keys to a file for ssh: nothing is trusted on first use."""
    path = output or _known_hosts()
    with connected(url, token_file) as client:
        lines = _keep_known_hosts(client, path)
    show({"file": str(path), "lines": lines}, Text(f"{path}: {len(lines)} lines"), as_json)


def _known_hosts() -> Path:
    return config_folder(os.environ) / "known_hosts"


def _keep_known_hosts(client: Client, path: Path) -> list[str]:
    """Write all nodes' lines, in one step; returns them. Raises Usage."""
    lines: list[str] = []
    after: int | None = None
    while True:
        page = client.ssh_hosts(after=after, limit=200)
        lines += [line for host in page.items for line in host.known_hosts]
        if page.next is None:
            break
        after = page.next
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}; give another file by --output") from error
    return lines


def _table(rows: Sequence[Grant]) -> Table:
    table = grid(">id", "person", "on", "state", "until", "nodes", "what for", ">asked")
    for row in rows:
        said = sum(1 for place in row.nodes if place.applied_at and not place.gone_at)
        on = printable(f"pool {row.pool}" if row.pool else f"node {row.node}")
        until = (row.until or "–")[:16].replace("T", " ")
        named = (printable(row.person), on, row.state, until, f"{said}/{len(row.nodes)}")
        table.add_row(str(row.id), *named, printable(row.reason), ago(row.requested_at))
    return table


def _shown(grant: Grant) -> Table:
    return facts(
        [
            ("login", str(grant.id)),
            ("person", printable(grant.person)),
            ("on", printable(f"pool {grant.pool}" if grant.pool else f"node {grant.node}")),
            ("state", printable(f"{grant.state} {grant.end_reason}".strip())),
            ("key", grant.key),
            ("account", grant.account),
            ("until", grant.until),
            ("what for", printable(grant.reason)),
            *((printable(place.node), _stands(place)) for place in grant.nodes),
        ]
    )


def _stands(place: GrantPlace) -> Text:
    if place.gone_at is not None:
        return Text(f"gone in {seconds(place.gone_after_s)}")
    if place.ssh:
        return Text(_local(place.ssh))
    return Text(printable(place.problem) or ("the key is in" if place.applied_at else "has not answered yet"))


def _local(command: str) -> str:
    """The command with this user's own file of host keys, which a shell or another home could not mistake."""
    return printable(command.replace("~/.config/tinyfleet/known_hosts", str(_known_hosts())))
