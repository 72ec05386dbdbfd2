"""tinyfleet webhooks: where events are sent to, and what became of each."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fleet.cli import text
from fleet.cli.connection import After, AsJson, Limit, TokenFile, Url, Usage, connected, stderr, the_one
from fleet.cli.printing import show, show_page
from fleet.cli.tables import grid, state
from fleet.cli.text import printable
from fleet.client import Client
from fleet.webhook_resources import MintedWebhook, Webhook

app = typer.Typer(no_args_is_help=True, help="Send events elsewhere.")
WebhookName = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The webhook's name or id.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the secret to this new file, mode 0600.")
]


@app.command("add")
def add_webhook(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, dots, dashes.")],
    address_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to: the file that holds the https://… address. It is a secret; without it, "
            "TINYFLEET_WEBHOOK_ADDRESS counts, and then stdin.",
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Events to send, as cron.failed or cron.*; repeat it. Otherwise cron.*"),
    ] = None,
    shape: Annotated[str, typer.Option(help="standard (signed), slack or discord.")] = "standard",
    output: Output = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Send events to an address, which is never an argument: those are seen by everybody on the machine. The signing
    secret is shown this once."""
    with connected(url, token_file) as client:
        minted = client.add_webhook(name, _address(address_file), kind or ["cron.*"], shape)
        _keep(minted.secret, output)
    _show_minted(minted, output, as_json)


def _address(file: Path | None) -> str:
    if file is None:
        return (os.environ.get("TINYFLEET_WEBHOOK_ADDRESS") or sys.stdin.readline()).strip()
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"--address-file {file}: {getattr(error, 'strerror', None) or 'is no text'}") from error


def _keep(secret: str, output: Path | None) -> None:
    if output is None:
        return
    try:
        descriptor = os.open(output, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise Usage(f"--output {output}: {error.strerror}; the secret is lost: rotate it") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")


def _show_minted(minted: MintedWebhook, output: Path | None, as_json: bool) -> None:
    where = minted.secret if output is None else f"written to {output}"
    show(minted, Text(f"webhook {printable(minted.name)} ({minted.id}) signs with: {where}"), as_json)


def find_webhook(client: Client, name: str) -> Webhook:
    """The webhook of that name or id. Raises Usage when there is none."""
    if name.isdigit():
        return client.webhook(int(name))
    return the_one(client.webhooks(name=name).items, f"webhook {name!r}", "webhooks list")


@app.command("list")
def list_webhooks(
    limit: Limit = 50,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List the webhooks."""
    with connected(url, token_file) as client:
        page = client.webhooks(after=after, limit=limit)
    table = grid(">id", "webhook", "host", "shape", "events", "state")
    for each in page.items:
        stands = (
            Text(f"disabled: {printable(each.disabled_reason)}", style="red")
            if each.disabled_at
            else Text("ok")
        )
        kinds = printable(", ".join(each.kinds))
        table.add_row(str(each.id), printable(each.name), printable(each.host), each.shape, kinds, stands)
    show_page(page, table, "No webhooks.", as_json)


@app.command("deliveries")
def list_deliveries(
    webhook: WebhookName,
    only: Annotated[str | None, typer.Option("--state", help="pending, delivered or dead.")] = None,
    limit: Limit = 30,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List what was sent there, is to be sent, or was given up."""
    with connected(url, token_file) as client:
        page = client.deliveries(find_webhook(client, webhook).id, only, after, limit)
    table = grid(">delivery", "event", "state", ">tries", ">status", "error", "when")
    for each in page.items:
        status = "" if each.status is None else str(each.status)
        table.add_row(
            str(each.id),
            printable(each.kind),
            state(each.state),
            str(each.tries),
            status,
            printable(each.error),
            text.ago(each.state_at),
        )
    show_page(page, table, "Nothing was sent yet.", as_json)


@app.command("test")
def try_webhook(
    webhook: WebhookName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Send a webhook.test there."""
    with connected(url, token_file) as client:
        found = find_webhook(client, webhook)
        sent = client.test_webhook(found.id)
    hint = f"tinyfleet webhooks deliveries {printable(found.name)}"
    show(sent, Text(f"delivery {sent.id} is {sent.state}; see: {hint}"), as_json)


@app.command("redeliver")
def redeliver(
    webhook: WebhookName,
    delivery: Annotated[int, typer.Argument(min=1, metavar="DELIVERY", help="The delivery's id.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Send once more what was delivered or given up."""
    with connected(url, token_file) as client:
        sent = client.redeliver(find_webhook(client, webhook).id, delivery)
    show(sent, Text(f"delivery {sent.id} is {sent.state}"), as_json)


@app.command("enable")
def enable_webhook(
    webhook: WebhookName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Send there again, after it was disabled."""
    with connected(url, token_file) as client:
        changed = client.enable_webhook(find_webhook(client, webhook).id)
    show(changed, Text(f"webhook {printable(changed.name)} is enabled"), as_json)


@app.command("rotate")
def rotate_webhook(
    webhook: WebhookName,
    output: Output = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Give it a new signing secret; the old one signs too for a day."""
    with connected(url, token_file) as client:
        minted = client.rotate_webhook(find_webhook(client, webhook).id)
        _keep(minted.secret, output)
    _show_minted(minted, output, as_json)


@app.command("remove")
def remove_webhook(
    webhook: WebhookName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Send nothing more there, and forget its address and secret."""
    with connected(url, token_file) as client:
        found = find_webhook(client, webhook)
        client.remove_webhook(found.id)
    if as_json:
        show({"id": found.id, "name": found.name, "removed": True}, "", as_json)
    else:
        stderr().print(Text(f"webhook {printable(found.name)} is removed"))
