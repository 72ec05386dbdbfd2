"""Read JSON that others wrote, by RFC 8259: what could not be written down again is refused when it comes in."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic_core import from_json

_MAY_OVERFLOW = re.compile(rb"[eE]\+?\d{3}|\d{309}")


def read(content: bytes) -> Any:
    """The document. ValueError for NaN and infinities, half surrogate pairs, and nesting beyond 200 levels."""
    document = from_json(content, allow_inf_nan=False)
    if _MAY_OVERFLOW.search(content):
        json.dumps(document, allow_nan=False)  # 1e999 was read as an infinity
    return document
