"""The `tinyfleet` command in this process, in an environment of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from typer.testing import CliRunner

from fleet import command

Cli = Callable[..., Any]


def runner(environ: dict[str, str]) -> Cli:
    """A function from arguments to the result of the command in this environment."""
    unset = dict.fromkeys(name for name in os.environ if name.startswith(("TINYFLEET_", "XDG_")))

    def invoke(*arguments: str, **options: Any) -> Any:
        return CliRunner().invoke(command.app, list(arguments), env={**unset, **environ}, **options)

    return invoke
