"""A kernel as the command line names it: a program and its shape, or a serialized kernel's file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.agents.protocol import Program
from fleet.cli.connection import Usage
from fleet.cli.text import printable

Shape = Annotated[str | None, typer.Argument(metavar="[SHAPE]", help="Sizes with commas: 512,512,512.")]
Dtype = Annotated[str, typer.Option(help="float32 or int32.")]
Threads = Annotated[int, typer.Option(min=1, help="Worker threads of the kernel.")]
Arch = Annotated[str | None, typer.Option(help="Only on nodes of this architecture.")]
Key = Annotated[str | None, typer.Option(help="Submitting again with the same key gives the same one.")]


def kernel(program: str | None, shape: str | None, dtype: str) -> dict[str, Any]:
    """A named program as the API takes it, or a serialized kernel's file. Raises Usage."""
    if program is None:
        raise Usage(f"say what to run: one of {', '.join(Program)} with a shape, or a kernel's JSON file")
    if program.endswith(".json"):
        return {"json": read_json(Path(program), "kernel")}
    if program not in set(Program):
        raise Usage(f"{printable(program)!r} is no program; there are {', '.join(Program)}")
    return {"program": program, "shape": _shape(program, shape), "dtype": dtype}


def _shape(program: str, shape: str | None) -> list[int]:
    sizes = (shape or "").replace("x", ",").split(",")
    if not all(size.strip().isdecimal() for size in sizes):
        given = f", not {printable(shape)!r}" if shape else ""
        raise Usage(f"{program} needs a shape: whole numbers with commas, such as 512,512,512{given}")
    return [int(size) for size in sizes]


def schedule_argument(name: str) -> Any:
    """A schedule by name, or from a JSON file. Raises Usage."""
    return read_json(Path(name), "--schedule") if name.endswith(".json") else name


def read_json(path: Path, option: str) -> Any:
    """The JSON in a file, or on stdin for `-`. Raises Usage, naming the option."""
    try:
        content = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        return json.loads(content)
    except (OSError, ValueError) as error:
        raise Usage(f"{option} {path}: {error}") from error
