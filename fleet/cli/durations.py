"""Options that are seconds or times: float() takes "nan" and "inf" too, which no request can carry."""

from __future__ import annotations

import math
import time
from datetime import datetime
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


def span(given: str) -> float:
    """An option's value: so many seconds, or 90s, 30m, 2h, 7d."""
    unit = _UNITS_S.get(given[-1:], 0.0)
    return duration(given[:-1]) * unit if unit else duration(given)


_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def moment(given: str | None, now: float | None = None) -> float:
    """Epoch seconds of an RFC 3339 time, or of so long ago (90s, 30m, 2h, 7d); 0 when none is given."""
    if given is None:
        return 0.0
    unit = _UNITS_S.get(given[-1:])
    if unit is not None and given[:-1].isdecimal():
        return max(0.0, (time.time() if now is None else now) - int(given[:-1]) * unit)
    try:
        return max(0.0, datetime.fromisoformat(given).timestamp())
    except ValueError:
        raise typer.BadParameter(
            f"{given!r} is neither a time, as 2026-11-26T10:00:00Z, nor as 2h ago"
        ) from None


WaitTimeout = Annotated[
    float | None,
    typer.Option(
        parser=positive,
        metavar="SECONDS",
        help="Wait at most so long, then exit 5; what was waited for goes on.",
    ),
]
