"""tinyfleet nodes: what there is, and keeping work off a node."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from fleet.cli import tables
from fleet.cli.connection import After, AsJson, Limit, TokenFile, Url, Usage, connected
from fleet.cli.durations import duration
from fleet.cli.printing import show, show_page
from fleet.cli.text import printable
from fleet.client import Client
from fleet.resources import Node

app = typer.Typer(no_args_is_help=True, help="The nodes of the fleet, and keeping work off one.")
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="The node's name or id.")]


@app.command("list")
def list_nodes(
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List the nodes: state, contact, devices."""
    with connected(url, token_file) as client:
        page = client.nodes(after=after, limit=limit)
    hint = "No node has joined yet: tinyfleet join-token create, then tinyfleet agent on the node."
    show_page(page, tables.nodes(page.items), hint, as_json)


def find_node(client: Client, name: str) -> Node:
    """The node of that name or id. Raises Usage when there is none."""
    if name.isdigit():
        return client.node(int(name))
    after: int | None = None
    while True:
        page = client.nodes(after=after, limit=200)
        for node in page.items:
            if node.name == name:
                return node
        if page.next is None:
            raise Usage(f"there is no node {printable(name)!r}; see: tinyfleet nodes list")
        after = page.next


@app.command("show")
def show_node(node: NodeName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Show one node with its devices."""
    with connected(url, token_file) as client:
        found = find_node(client, node)
    show(found, tables.node(found), as_json)


@app.command("cordon")
def cordon_node(
    node: NodeName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Accept nothing new on the node; what runs there goes on."""
    with connected(url, token_file) as client:
        changed = client.cordon(find_node(client, node).id)
    show(changed, Text(f"{changed.name} takes nothing new"), as_json)


@app.command("uncordon")
def uncordon_node(
    node: NodeName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Accept work on the node again."""
    with connected(url, token_file) as client:
        changed = client.uncordon(find_node(client, node).id)
    show(changed, Text(f"{changed.name} takes work again"), as_json)


@app.command("drain")
def drain_node(
    node: NodeName,
    deadline_s: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            parser=duration,
            metavar="SECONDS",
            help="What runs then is stopped, and queued again.",
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Cordon the node and let what runs there finish."""
    with connected(url, token_file) as client:
        changed = client.drain(find_node(client, node).id, deadline_s)
    show(changed, Text(f"{changed.name} is {changed.state}"), as_json)


@app.command("retest")
def retest_gpu(
    node: NodeName,
    gpu: Annotated[str, typer.Argument(metavar="GPU", help="As the node calls it: gpu0.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Have a GPU reset and burnt in: one that is quarantined and was mended, or one that you doubt."""
    with connected(url, token_file) as client:
        changed = client.retest_gpu(find_node(client, node).id, gpu)
    show(
        changed, Text(printable(f"{gpu} of {changed.name} takes work again once its burn-in passed")), as_json
    )


@app.command("label")
def label_node(
    node: NodeName,
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE|KEY-]", help="Put one on; KEY- takes it off.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Put labels on a node that jobs can ask for."""
    with connected(url, token_file) as client:
        found = find_node(client, node)
        changed = client.label_node(found.id, _labelled(found.labels, labels or []))
    shown = ", ".join(f"{key}={value}" for key, value in sorted(changed.labels.items())) or "no labels"
    show(changed, Text(printable(f"{changed.name} has {shown}")), as_json)


def _labelled(before: dict[str, str], changes: list[str]) -> dict[str, str]:
    after = dict(before)
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals and not key.endswith("-"):
            raise Usage(f"{printable(change)}: give KEY=VALUE to put a label on, or KEY- to take it off")
        if equals:
            after[key] = value
        else:
            after.pop(key[:-1], None)
    return after


@app.command("trust")
def trust_node(
    node: NodeName,
    trust: Annotated[str, typer.Argument(help="sealed, shared or tainted.")],
    reason: Annotated[str, typer.Option(help="Why; it stands beside the trust from then on.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Say how far the node is trusted; only a sealed node's results count for everybody."""
    with connected(url, token_file) as client:
        changed = client.trust_node(find_node(client, node).id, trust, reason)
    show(changed, Text(f"{changed.name} is {changed.trust}"), as_json)


@app.command("readmit")
def readmit_node(
    node: NodeName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Let in a node whose identity two live agents used. Stop the copy first: who reports next is the node."""
    with connected(url, token_file) as client:
        changed = client.readmit(find_node(client, node).id)
    show(changed, Text(f"{changed.name} is let in again, and is asked for a new key"), as_json)


@app.command("retire")
def retire_node(
    node: NodeName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Take a drained node out of the fleet; its identity is refused from then on."""
    with connected(url, token_file) as client:
        changed = client.retire(find_node(client, node).id)
    show(changed, Text(f"{changed.name} is {changed.state}"), as_json)
