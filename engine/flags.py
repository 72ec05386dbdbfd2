"""What can be set of a search: one frozen value, and a table that says what each part means.

A flag is part of a result's key exactly when it changes the result, that is what a stored time is a time of: `compiler`
(by the target's id) and `threads`. The others decide how far a search looks and which random numbers it verifies
with; a search never replaces what is stored by something slower, so they need not be told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from engine.errors import InvalidOption
from engine.toolchain import Compiler

MOST_THREADS = 1024
DEV = "dev"


@dataclass(frozen=True, slots=True)
class Flags:
    """A search's flags; `FLAGS` says what each means and what it may be."""

    budget_s: float = 30.0
    threads: int = 1
    compiler: Compiler | None = None
    width: int = 4
    per_round: int = 16
    patience: int = 3
    finalists: int = 3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: its name, the field of `Flags`, how its text is read, whether it is part of a result's key."""

    name: str
    field: str
    type: str
    help: str
    key: bool
    read: Callable[[str], Any]

    @property
    def default(self) -> str:
        """The default as text."""
        value = getattr(Flags(), self.field)
        return DEV if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def flags_of(texts: Mapping[str, str]) -> Flags:
    """The flags that are named, the others as they are by default. InvalidOption names a flag or value that cannot
    be, and the nearest that can."""
    found = {flag_of(name, text).field: flag_of(name).read(text) for name, text in texts.items()}
    return Flags(**found)


def flag_of(name: str, given: str = "") -> Flag:
    """The flag of that name. InvalidOption names the nearest."""
    found = next((flag for flag in FLAGS if flag.name == name), None)
    if found is None:
        raise InvalidOption(name, given, f"there is no such flag; the nearest is {_nearest(name, _NAMES)}")
    return found


def described() -> list[dict[str, Any]]:
    """The table as rows, for a terminal or as JSON."""
    return [
        {
            "flag": f"--{flag.name}",
            "type": flag.type,
            "default": flag.default,
            "key": flag.key,
            "help": flag.help,
        }
        for flag in FLAGS
    ]


def _nearest(given: str, known: tuple[str, ...]) -> str:
    return get_close_matches(given.lower(), known, n=1, cutoff=0.0)[0]


def _whole(name: str, low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        return int(_number(name, text, low, high, "a whole number", int))

    return read


def _seconds(name: str, low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        return _number(name, text, low, high, "seconds", float)

    return read


def _number(name: str, text: str, low: float, high: float, kind: str, read: Callable[[str], float]) -> float:
    try:
        found = read(text)
    except ValueError:
        found = float("nan")
    if low <= found <= high:
        return found
    wanted = f"must be {kind} from {_shown(low)} to {_shown(high)}"
    nearest = "" if found != found else f"; the nearest is {_shown(max(low, min(found, high)))}"
    raise InvalidOption(name, text, wanted + nearest)


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _compiler(text: str) -> Compiler | None:
    known = (DEV, *Compiler)
    if text not in known:
        raise InvalidOption(
            "compiler", text, f"must be one of {', '.join(known)}; the nearest is {_nearest(text, known)}"
        )
    return None if text == DEV else Compiler(text)


FLAGS = (
    Flag(
        "budget",
        "budget_s",
        "seconds",
        "how long to search, the last verification and race included",
        False,
        _seconds("budget", 0.1, 1e6),
    ),
    Flag(
        "threads",
        "threads",
        f"1 to {MOST_THREADS}",
        "worker threads",
        True,
        _whole("threads", 1, MOST_THREADS),
    ),
    Flag(
        "compiler",
        "compiler",
        ", ".join((DEV, *Compiler)),
        "what compiles candidates; dev: the C compiler for DEV=CPU:C, else LLVM",
        True,
        _compiler,
    ),
    Flag("width", "width", "1 to 1000", "schedules kept each round", False, _whole("width", 1, 1000)),
    Flag(
        "per-round",
        "per_round",
        "1 to 10000",
        "candidates measured a round",
        False,
        _whole("per-round", 1, 10_000),
    ),
    Flag(
        "patience",
        "patience",
        "1 to 1000",
        "rounds without a gain of 0.5 % after which it ends",
        False,
        _whole("patience", 1, 1000),
    ),
    Flag(
        "finalists",
        "finalists",
        "1 to 100",
        "how many are verified at full shape and raced at the end",
        False,
        _whole("finalists", 1, 100),
    ),
    Flag("seed", "seed", "0 to 2⁶³ - 1", "of the random inputs", False, _whole("seed", 0, 2**63 - 1)),
)
_NAMES = tuple(flag.name for flag in FLAGS)
assert {flag.field for flag in FLAGS} == {field.name for field in fields(Flags)}
