"""Read JSON that others wrote, by RFC 8259: what could not be written down again is refused when it comes in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import from_json

# A value takes some hundred bytes of memory, an empty list three of text. What asks for most, 10,000 jobs at once, has
# fewer; commas and brackets in texts are counted with them.
MOST_VALUES = 2_000_000
_MAY_OVERFLOW = re.compile(rb"[eE]\+?\d{3}|\d{309}")


def read(content: bytes) -> Any:
    """The document. ValueError for NaN and infinities, half surrogate pairs, nesting beyond 200 levels, and more values
    than MOST_VALUES."""
    if sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ValueError(f"it has more than {MOST_VALUES:,} values: send them in parts")
    document = from_json(content, allow_inf_nan=False)
    if _MAY_OVERFLOW.search(content):
        json.dumps(document, allow_nan=False)  # 1e999 was read as an infinity
    return document


class _Repeating(dict[str, Any]):
    """An object in whose text a key stood twice."""

    key: str


def repeated_key(content: bytes) -> str | None:
    """Where a document that can be read has the same key twice in one object (`spec.kernel`), else None. Readers
    differ in which of the two values they take."""
    repeats = False

    def look(pairs: list[tuple[str, Any]]) -> None:  # of the document itself nothing is kept
        nonlocal repeats
        repeats = repeats or len(dict(pairs)) < len(pairs)

    json.loads(content, object_pairs_hook=look)
    return next(_repeated(json.loads(content, object_pairs_hook=_marked), ()), None) if repeats else None


def _marked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    key = None
    for name, value in pairs:
        key = name if key is None and name in found else key
        found[name] = value
    if key is None:
        return found
    marked = _Repeating(found)
    marked.key = key
    return marked


def _repeated(value: Any, place: tuple[str | int, ...]) -> Iterator[str]:
    if isinstance(value, _Repeating):
        yield path((*place, value.key))
    if isinstance(value, dict | list):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _repeated(each, (*place, name))


def path(place: Sequence[str | int]) -> str:
    """A place in a document as people write it: `spec.kernel.shape[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")
