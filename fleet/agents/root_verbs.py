"""What root does for the agent: a closed table of verbs, each with its fields and how each field is checked.

The agent is no root. What it needs of root goes over one socket, and only what a table of verbs lists. To add a verb,
write a function (root, fields) → answer in a module named root_*.py that imports the standard library alone, and put it in
that module's table; `fleet.agents.root` joins the tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Fields = Mapping[str, Any]
Check = Callable[[object], Any]  # a field's value as it came → as it is used; Refusal says what it should be

RESTART = ("systemctl", "restart", "--no-block", "tinyfleet-agent.service")
TRIAL_S = 60.0  # how long a new version has to report


class Refusal(Exception):
    """Root does not do it; the message says why and goes to who asked."""


@dataclass(frozen=True)
class Root:
    """The machine as root's verbs see it; everything lies below `folder`, so that a test has a machine of its own.

    `restart`: the command that restarts the agent; `agent`: whose processes may ask, beside root's own, as a user id.
    """

    folder: Path = Path("/")
    restart: tuple[str, ...] = RESTART
    agent: int = 0
    trial_s: float = TRIAL_S

    def at(self, path: str) -> Path:
        """An absolute path of the machine."""
        return self.folder / path.lstrip("/")


Act = Callable[[Root, Fields], Mapping[str, Any]]
Chore = Callable[
    [Root], float | None
]  # does what is due; seconds until it wants to be called again, None: not before


@dataclass(frozen=True)
class Verb:
    """One thing that may be asked: every field that it takes, and no others. Verbs of one `line` wait for each other."""

    act: Act
    line: str
    fields: Mapping[str, Check] = field(default_factory=dict)

    def do(self, root: Root, name: str, given: Fields) -> Mapping[str, Any]:
        """Check the fields and act. Refusal."""
        if unknown := sorted(set(given) - set(self.fields)):
            raise Refusal(f"{name} takes no field {unknown[0]!r}; it takes {_list(self.fields)}")
        if missing := sorted(set(self.fields) - set(given)):
            raise Refusal(f"{name} needs the field {missing[0]!r}")
        return self.act(root, {key: _checked(key, check, given[key]) for key, check in self.fields.items()})


def _checked(name: str, check: Check, value: object) -> Any:
    try:
        return check(value)
    except Refusal as error:
        raise Refusal(f"field {name!r}: {error}") from error


def _list(names: Mapping[str, object]) -> str:
    return ", ".join(names) or "none"


_VERSION = re.compile(r"(\d{1,6}(?:\.\d{1,6}){1,3})(?:(a|b|rc)(\d{1,6}))?")


def version(value: object) -> str:
    """A field's check: a version such as 1.2.0 or 1.3.0rc1."""
    if not isinstance(value, str) or not _VERSION.fullmatch(value):
        raise Refusal("give a version such as 1.2.0 or 1.3.0rc1")
    return value


def order(text: str) -> tuple[Any, ...]:
    """What versions are compared by: 1.2 = 1.2.0 < 1.3.0a1 < 1.3.0rc1 < 1.3.0 < 1.10.0."""
    found = _VERSION.fullmatch(text)
    if found is None:
        raise Refusal(f"{text!r} is no version such as 1.2.0")
    numbers = [int(each) for each in found[1].split(".")]
    while numbers[-1:] == [0]:
        numbers.pop()
    stage = (found[2] or "rz", int(found[3] or 0))  # a < b < rc < the release itself
    return (tuple(numbers), stage)
