"""What a command is and what it brings along, as options of the command line: the same for run, arrays and crons."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.cli.connection import Usage

Command = Annotated[
    list[str] | None, typer.Argument(metavar="[--] COMMAND [ARGUMENTS]...", help="What to run.")
]
ScriptFile = Annotated[
    Path | None, typer.Option("--script", help="A file with a script to run instead; - reads stdin.")
]
Files = Annotated[
    list[str] | None,
    typer.Option("--file", "-f", metavar="LOCAL[:PATH]", help="A file to take along; to PATH there."),
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME[=VALUE]", help="A variable; or this one's."),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option("--secret", "-s", metavar="NAME[=SECRET]", help="A variable with a kept secret in it."),
]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="NAME=DATA-SET", help="A data set, read-only in data/NAME."),
]
Artifacts = Annotated[
    list[str] | None,
    typer.Option("--artifact", "-a", metavar="GLOB", help="Keep these files too: *, ?, **; quote it."),
]
Network = Annotated[bool, typer.Option("--network", help="Reach the network; only on nodes that allow it.")]
Container = Annotated[
    str | None,
    typer.Option(metavar="IMAGE", help="Run it in a container of this image; where nodes have podman."),
]


def brought(
    file: Sequence[str] | None,
    env: Sequence[str] | None,
    secret: Sequence[str] | None,
    data: Sequence[str] | None,
) -> dict[str, Any]:
    """What a command brings, as `Client.command_spec` takes it. Raises Usage for what is not as it should be written."""
    files = dict(_local(each) for each in file or [])
    return {
        "files": files,
        "executable": [path for path, local in files.items() if local.stat().st_mode & 0o100],
        "env": variables(env),
        "secrets": dict(_secret(each) for each in secret or []),
        "data": dict(_data_set(each) for each in data or []),
    }


def variables(env: Sequence[str] | None) -> dict[str, str]:
    """Variables by name. Raises Usage for one that is not here and has no value."""
    return dict(_variable(each) for each in env or [])


def read_script(path: Path | None, command: list[str] | None) -> str | None:
    """The script that is to run instead of a command. Raises Usage when both are given, or neither, or it is no text."""
    if (path is None) == (not command):
        raise Usage("give a command after --, or a file with --script; exactly one of them")
    if path is None:
        return None
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"--script {path}: it cannot be read as text: {error}") from error


def _local(given: str) -> tuple[str, Path]:
    local, _, path = given.partition(":")
    found = Path(local)
    if not found.is_file():
        raise Usage(f"--file {given}: there is no file {local}")
    if not path and (found.is_absolute() or ".." in found.parts):
        path = found.name
    return path or found.as_posix(), found


def _data_set(given: str) -> tuple[str, str]:
    name, sign, address = given.partition("=")
    if not sign:
        raise Usage(f"--data {given}: give a name and a data set, as images=1f3a…; see: tinyfleet data push")
    return name, address


def _secret(given: str) -> tuple[str, str]:
    variable, _, name = given.partition("=")
    return variable, name or variable


def _variable(given: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not sign:
        if name not in os.environ:
            raise Usage(f"--env {name}: there is no such variable here; give it a value, {name}=…")
        value = os.environ[name]
    return name, value
