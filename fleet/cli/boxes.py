"""tinyfleet box-models, stock and nodes accept: what boxes must be, whether nodes are that, and which boxes there are."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from fleet.box_resources import Acceptance, Box, BoxModel
from fleet.cli.connection import EXIT_FAILED, After, AsJson, Limit, TokenFile, Url, Usage, connected, the_one
from fleet.cli.nodes import NodeName, find_node
from fleet.cli.printing import show, show_page
from fleet.cli.tables import facts, grid, state
from fleet.cli.text import printable
from fleet.client import Client

models_app = typer.Typer(no_args_is_help=True, help="What a box of each model must be.")
stock_app = typer.Typer(
    no_args_is_help=True, help="The boxes that there are, by model, serial, state and place."
)
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
SerialNumber = Annotated[str, typer.Argument(metavar="SERIAL", help="The box's serial.")]
STATES = "ordered, stored, installed, repair or scrapped"
_LOOK_S = 1.0


# ---------------------------------------------------------------------------------------------- models


@models_app.command("list")
def list_models(
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List the models with what one of each must be."""
    with connected(url, token_file) as client:
        page = client.box_models(after=after, limit=limit)
    table = grid("model", ">gpus", "limits")
    for each in page.items:
        table.add_row(printable(each.name), str(each.limits.gpus), printable(_limits(each)))
    show_page(page, table, "No model yet: tinyfleet box-models set MODEL --file model.toml.", as_json)


def _limits(model: BoxModel) -> str:
    said = model.limits.model_dump(mode="json", exclude_none=True)
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in said.items()
        if name != "gpus"
    )


@models_app.command("show")
def show_model(
    model: ModelName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Show what a box of the model must be, as the TOML that would set it."""
    with connected(url, token_file) as client:
        found = client.box_model(model)
    said = found.limits.model_dump(mode="json", exclude_none=True)
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in said.items())
    show(found, Text(printable(lines)), as_json)


@models_app.command("set")
def set_model(
    model: ModelName,
    file: Annotated[Path, typer.Option(help="A TOML file with the limits: docs/nodes.md lists them.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Say what a box of the model must be, all of it."""
    try:
        limits: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Usage(f"--file {file}: {error}") from error
    with connected(url, token_file) as client:
        found = client.put_box_model(model, limits)
    show(found, Text(printable(f"{model}: {_limits(found) or f'{found.limits.gpus} GPUs'}")), as_json)


@models_app.command("remove")
def remove_model(
    model: ModelName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Forget a model; not while boxes of the stock are of it."""
    with connected(url, token_file) as client:
        client.remove_box_model(model)
    if as_json:
        typer.echo(json.dumps({"removed": model}))
    else:
        typer.echo(f"{printable(model)} is forgotten")


# ------------------------------------------------------------------------------------------ acceptance


def accept_node(
    node: NodeName,
    model: Annotated[str | None, typer.Option(help="The model; else the node's own.")] = None,
    look: Annotated[
        bool, typer.Option("--look", help="Only show what it was found to be the last time.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the verdict; exit code 1 if refused.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Hold a node against the limits of its model: cordon, burn in, compare; uncordon if nothing is wrong."""
    with connected(url, token_file) as client:
        found = find_node(client, node)
        said = client.acceptance(found.id) if look else client.accept_node(found.id, model)
        while wait and said.state == "measuring":
            time.sleep(_LOOK_S)
            said = client.acceptance(found.id)
    show(said, acceptance(said), as_json)
    if wait and said.state == "refused":
        raise typer.Exit(EXIT_FAILED)


def acceptance(said: Acceptance) -> RenderableType:
    """What a node was found to be, limit by limit."""
    head = facts(
        [("node", printable(said.node)), ("model", printable(said.model)), ("state", state(said.state))]
    )
    if not said.lines:
        return head
    lines = grid("", "what", "want", "have", "fix")
    for line in said.lines:
        mark = Text("ok", style="green") if line.ok else Text("no", style="bold red")
        lines.add_row(mark, *(printable(each) for each in (line.what, line.want, line.have, line.fix)))
    return Group(head, "", lines)


# ----------------------------------------------------------------------------------------------- stock


def _boxes(rows: list[Box]) -> RenderableType:
    table = grid("serial", "model", "state", "place", "node", "note")
    for box in rows:
        table.add_row(
            printable(box.serial),
            printable(box.model),
            state(box.state),
            printable(box.place),
            printable(box.node or ""),
            printable(box.note),
        )
    return table


@stock_app.command("list")
def list_stock(
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    in_state: Annotated[str | None, typer.Option("--state", help=f"Only those that are {STATES}.")] = None,
    place: Annotated[str | None, typer.Option(help="Only at this place.")] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List the boxes."""
    with connected(url, token_file) as client:
        page = client.boxes(model=model, state=in_state, place=place, after=after, limit=limit)
    show_page(page, _boxes(page.items), "No such box: tinyfleet stock add SERIAL --model MODEL.", as_json)


@stock_app.command("count")
def count_stock(as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Count the boxes by model, state and place."""
    with connected(url, token_file) as client:
        found = client.box_counts()
    table = grid("model", "state", "place", ">boxes")
    for each in found.items:
        table.add_row(printable(each.model), state(each.state), printable(each.place), str(each.boxes))
    show(found, table, as_json)


@stock_app.command("show")
def show_box(
    serial: SerialNumber, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Show a box."""
    with connected(url, token_file) as client:
        found = _find(client, serial)
    show(found, _boxes([found]), as_json)


def _find(client: Client, serial: str) -> Box:
    return the_one(client.boxes(serial=serial).items, f"box {serial!r} in the stock", "stock list")


@stock_app.command("add")
def add_box(
    serial: SerialNumber,
    model: Annotated[str, typer.Option(help="Its model; tinyfleet box-models lists them.")],
    in_state: Annotated[str, typer.Option("--state", help=f"{STATES}.")] = "stored",
    place: Annotated[str, typer.Option(help="Where it is, as berlin/r1 or shelf 3.")] = "",
    node: Annotated[str | None, typer.Option(help="The name of the node that it is, or will be.")] = None,
    note: Annotated[str, typer.Option(help="Whatever is to be remembered.")] = "",
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Add a box. A node that joins by its name is held against the model before it takes work."""
    with connected(url, token_file) as client:
        found = client.add_box(serial, model, state=in_state, place=place, node=node, note=note)
    show(found, _boxes([found]), as_json)


@stock_app.command("move")
def move_box(
    serial: SerialNumber,
    to: Annotated[str | None, typer.Option("--to", metavar="STATE", help=f"{STATES}.")] = None,
    place: Annotated[str | None, typer.Option(help="Where it is from now on.")] = None,
    node: Annotated[
        str | None, typer.Option(help="The name of the node that it is, or will be; - takes it off.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="Whatever is to be remembered.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Change a box's state, place, node or note."""
    said = {"state": to, "place": place, "note": note}
    changes: dict[str, str | None] = {name: value for name, value in said.items() if value is not None}
    if node is not None:
        changes["node"] = None if node == "-" else node
    with connected(url, token_file) as client:
        found = client.move_box(_find(client, serial).id, changes)
    show(found, _boxes([found]), as_json)
