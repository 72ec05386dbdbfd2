"""Options that are seconds: float() takes "nan" and "inf" too, which no request can carry."""

from __future__ import annotations

import math
from typing import Annotated

import typer


def positive(given: str | float) -> float:
    """An option's value, finite and greater than zero."""
    value = duration(given)
    if value == 0:
        raise typer.BadParameter("0 is not greater than zero")
    return value


def duration(given: str | float) -> float:
    """An option's value, finite and not negative."""
    try:
        value = float(given)
    except ValueError:
        raise typer.BadParameter(f"{given!r} is not a number") from None
    if not math.isfinite(value):
        raise typer.BadParameter(f"{given} is not a finite number")
    if value < 0:
        raise typer.BadParameter(f"{given} is less than zero")
    return value


WaitTimeout = Annotated[
    float | None,
    typer.Option(
        parser=positive,
        metavar="SECONDS",
        help="Wait at most so long, then exit 5; what was waited for goes on.",
    ),
]
