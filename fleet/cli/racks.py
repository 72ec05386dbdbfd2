"""tinyfleet racks: cabinets, what they may draw, and which node stands in which."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fleet.cli.connection import After, AsJson, Limit, TokenFile, Url, connected
from fleet.cli.nodes import NodeName, find_node
from fleet.cli.printing import show, show_page
from fleet.cli.text import printable

app = typer.Typer(no_args_is_help=True, help="Racks, and which node stands in which.")
Site = Annotated[str, typer.Argument(metavar="SITE", help="The building.")]
RackName = Annotated[str, typer.Argument(metavar="RACK", help="The cabinet's name in its site.")]


@app.command("list")
def list_racks(
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List the racks with their nodes and what they may draw."""
    with connected(url, token_file) as client:
        page = client.racks(after=after, limit=limit)
    table = Table("SITE", "RACK", "NODES", "BUDGET", box=None)
    for rack in page.items:
        table.add_row(
            printable(rack.site), printable(rack.name), str(rack.nodes), _watts(rack.power_budget_watts)
        )
    show_page(page, table, "No rack yet: tinyfleet racks place NODE --site SITE --rack RACK.", as_json)


def _watts(watts: float | None) -> str:
    return "" if watts is None else f"{watts / 1000:.1f} kW"


@app.command("put")
def put_rack(
    site: Site,
    rack: RackName,
    budget_watts: Annotated[
        float | None, typer.Option(help="What its nodes may draw together; without it, none is known.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Say what a rack may draw."""
    with connected(url, token_file) as client:
        changed = client.put_rack(site, rack, budget_watts)
    budget = _watts(changed.power_budget_watts) or "nothing that is known"
    show(changed, Text(f"{printable(rack)} in {printable(site)} may draw {budget}"), as_json)


@app.command("place")
def place_node(
    node: NodeName,
    site: Annotated[str, typer.Option(help="The building.")],
    rack: Annotated[str, typer.Option(help="The cabinet; it is made if it is new.")],
    nameplate_watts: Annotated[
        float | None, typer.Option(help="The most that the node draws, by its maker's word.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Say where a node stands: jobs may ask for a rack, and metrics are labelled with it."""
    with connected(url, token_file) as client:
        found = find_node(client, node)
        changed = client.place_node(found.id, site, rack, nameplate_watts)
    where = f"{printable(found.name)} stands in {printable(changed.rack)} in {printable(changed.site)}"
    show(changed, Text(where), as_json)
