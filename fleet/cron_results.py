"""The numbers that a run declares: read from the artifact `results.json` of its job, else from its kernel rows. Pure.

`results.json` is an object; its numbers are series, those of an object inside it are named with a dot, as
`{"loss": 0.3, "valid": {"accuracy": 0.91}}` gives `loss` and `valid.accuracy`. Texts, booleans, nulls and lists are
not series and are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from fleet import documents

ARTIFACT = "results.json"
MAX_BYTES = 64 << 10
MAX_SERIES = 64
MAX_DEPTH = 4
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_OF_ROWS = ("best_s", "median_s", "gflops", "gbps")


@dataclass(frozen=True)
class Numbers:
    """Series by name; `problem` says what of it could not be taken, and the fix."""

    values: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""


def of_document(content: bytes) -> Numbers:
    """What a `results.json` declares; nothing of one that is too large or no object."""
    if len(content) > MAX_BYTES:
        return Numbers(problem=f"{ARTIFACT} has {len(content)} bytes: give at most {MAX_BYTES}")
    try:
        document = documents.read(content)
    except ValueError as error:
        return Numbers(problem=f"{ARTIFACT} is no JSON: {str(error)[:200]}")
    if not isinstance(document, dict):
        return Numbers(problem=f'{ARTIFACT} is no object: give one of numbers by name, as {{"loss": 0.3}}')
    return _limited(dict(_flat(document, "", 1)))


def of_result(result: Mapping[str, Any] | None) -> Numbers:
    """The times and rates of a kernel job's rows, each named by its row, as `tuned.best_s`."""
    rows = (result or {}).get("rows")
    found: dict[str, float] = {}
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and row.get("outcome") == "ok":
            found |= {
                f"{row.get('name')}.{name}": float(row[name])
                for name in _OF_ROWS
                if _is_number(row.get(name))
            }
    return _limited(found)


def _flat(document: Mapping[str, Any], before: str, depth: int) -> Iterator[tuple[str, float]]:
    for name, value in document.items():
        if isinstance(value, dict) and depth < MAX_DEPTH:
            yield from _flat(value, f"{before}{name}.", depth + 1)
        elif _is_number(value):
            yield f"{before}{name}", float(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e300 and isfinite(value)


def _limited(found: Mapping[str, float]) -> Numbers:
    right = {name: value for name, value in found.items() if NAME.fullmatch(name)}
    wrong = [name for name in found if name not in right]
    kept = dict(list(right.items())[:MAX_SERIES])
    problems = []
    if wrong:
        problems.append(
            f"{wrong[0][:80]!r} names no series: use letters, digits, dots and dashes, at most 63"
        )
    if len(right) > len(kept):
        problems.append(f"it declares {len(right)} series: the first {MAX_SERIES} are kept")
    return Numbers(kept, "; ".join(problems))
