"""Read JSON that others wrote, by RFC 8259: what could not be written down again is refused when it comes in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import from_json

MOST_KEYS = 10_000  # of one object: each that is unknown is an error of its own
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')
_MAY_OVERFLOW = re.compile(rb"[eE]\+?\d{3}|\d{309}")


def check_size(content: bytes, most: int) -> None:
    """ValueError when a document has more values than so many: an empty list is three bytes of text and 64 of memory, and
    one that is wrong costs a kilobyte more. What is in texts does not count."""
    if _marks(content) > most and _marks(_TEXT.sub(b"", content)) > most:
        raise ValueError(f"it has more than {most:,} values: send them in parts")


def _marks(content: bytes) -> int:
    return sum(map(content.count, (b",", b"[", b"{")))


def read(content: bytes) -> Any:
    """The document. ValueError for NaN and infinities, half surrogate pairs, and nesting beyond 200 levels."""
    document = from_json(content, allow_inf_nan=False)
    if _MAY_OVERFLOW.search(content):
        json.dumps(document, allow_nan=False)  # 1e999 was read as an infinity
    return document


class _Repeating(dict[str, Any]):
    """An object in whose text a key stood twice."""

    key: str


def repeated_key(content: bytes) -> str | None:
    """Where a document that can be read has the same key twice in one object (`spec.kernel`), else None. Readers
    differ in which of the two values they take. ValueError for an object of more than MOST_KEYS."""
    repeats = False

    def look(pairs: list[tuple[str, Any]]) -> None:  # of the document itself nothing is kept
        nonlocal repeats
        if len(pairs) > MOST_KEYS:
            raise ValueError(f"an object in it has more than {MOST_KEYS:,} keys")
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
