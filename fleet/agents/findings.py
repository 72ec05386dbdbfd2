"""One line of what `tinyfleet node doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """`missing` stops the node from working; `weak` only makes it worse, or less to be trusted."""

    subject: str
    verdict: Literal["ok", "weak", "missing"]
    found: str
    fix: str = ""
