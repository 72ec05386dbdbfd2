"""Read JSON that others wrote, by RFC 8259: what could not be written down again is refused when it comes in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import from_json

_MAY_OVERFLOW = re.compile(rb"[eE]\+?\d{3}|\d{309}")


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
    differ in which of the two values they take."""
    repeating: list[_Repeating] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        names = [name for name, _ in pairs]
        marked = _Repeating(found)
        marked.key = next(name for place, name in enumerate(names) if name in names[:place])
        repeating.append(marked)
        return marked

    document = json.loads(content, object_pairs_hook=collect)
    return next(_repeated(document, ()), None) if repeating else None


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
