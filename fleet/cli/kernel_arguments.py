"""A kernel as the command line names it: a program and its shape, or a serialized kernel's file."""

from __future__ import annotations

import json
import math
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
SCHEDULES = ("none", "heuristic", "tuned")


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


def schedule_argument(given: str) -> Any:
    """A schedule by name, as JSON, or from a JSON file. Raises Usage."""
    if given in SCHEDULES:
        return given
    if given.lstrip().startswith("["):
        return _parsed(given, "--schedule")
    path = Path(given)
    if given != "-" and path.suffix != ".json" and not path.is_file():
        raise Usage(
            f"--schedule {printable(given)!r} is no schedule: give {', '.join(SCHEDULES)}, a JSON list of opts "
            'such as \'[["UPCAST", "out", 0, 4, null]]\', or a file that holds one'
        )
    document = read_json(path, "--schedule")
    if not isinstance(document, list):
        raise Usage(f"--schedule {printable(given)}: a schedule is a JSON list of opts")
    return document


def read_json(path: Path, option: str) -> Any:
    """The JSON in a file, or on stdin for `-`. Raises Usage, naming the option."""
    try:
        content = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Usage(f"{option} {path}: {error}") from error
    return _parsed(content, f"{option} {path}")


def read_spec(path: Path) -> dict[str, Any]:
    """A job's whole spec. Raises Usage."""
    document = read_json(path, "--spec")
    if not isinstance(document, dict):
        raise Usage(f'--spec {path}: a spec is a JSON object such as {{"kind": "noop"}}')
    return document


def read_list(path: Path) -> list[dict[str, Any]]:
    """Requests for jobs. Raises Usage."""
    document = read_json(path, "batch")
    if not isinstance(document, list) or not document or not all("spec" in each for each in document):
        raise Usage(f'{path}: a batch is a JSON list of requests such as {{"spec": {{"kind": "noop"}}}}')
    return document


def _parsed(content: str, where: str) -> Any:
    try:
        return json.loads(content, parse_constant=_number, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise Usage(f"{where}: {error}") from error


def _number(literal: str) -> float:
    """Python reads NaN and Infinity, and 1e999 as the latter; none of them can be sent."""
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(f"{literal} is not a finite number")
    return value
