"""Values as people read them in a terminal: times, rates, kernels, and text that others wrote."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

# Categories that move the cursor, hide or reorder text: controls, formats, surrogates, private use.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def printable(text: str, keep: str = "") -> str:
    """`text` with what could steer a terminal escaped (ESC as \\x1b); characters in `keep` stay."""
    return "".join(
        char if char in keep or unicodedata.category(char) not in _UNPRINTABLE else _escaped(char)
        for char in text
    )


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def seconds(value: float | None) -> str:
    """A duration in seconds with a fitting unit: `1.84 ms`, `12.0 s`, `3 m 05 s`."""
    if value is None:
        return "–"
    if 0 < value < 1:
        scale, unit = next((s, u) for s, u in ((1e-3, "ms"), (1e-6, "µs"), (0.0, "ns")) if value >= s)
        return f"{value / (scale or 1e-9):.3g} {unit}"
    if value < 60:
        return f"{value:.1f} s" if value else "0 s"
    return f"{int(value) // 60} m {int(value) % 60:02d} s"


def rate(flops: float | None, time_s: float | None) -> float | None:
    """GFLOP/s, or None when either part is unknown."""
    return flops / time_s / 1e9 if flops and time_s else None


def gflops(value: float | None) -> str:
    """A rate in GFLOP/s with one decimal."""
    return "–" if value is None else f"{value:,.1f}"


def error_size(value: float | None) -> str:
    """An error or tolerance: `2.4e-06`; an exact result is `0`."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:.1e}"


def size(value: int) -> str:
    """Bytes in binary units: `251 GiB`."""
    power = min(4, int(math.log2(value) // 10)) if value > 0 else 0
    scaled = value / 1024**power
    return f"{scaled:.{0 if scaled >= 100 else 1}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}".replace(
        ".0 ", " "
    )


def kernel(reference: Mapping[str, Any] | None) -> str:
    """A kernel reference in a few words: `gemm 512×512×512 float32`."""
    if not reference:
        return "–"
    if program := reference.get("program"):
        shape = "×".join(str(extent) for extent in reference.get("shape") or [])
        return " ".join(part for part in (str(program), shape, reference.get("dtype") or "") if part)
    digest = reference.get("hash")
    return f"kernel {digest[:12]}" if digest else "serialized kernel"


def schedule(opts: Sequence[Sequence[Any]] | None) -> str:
    """A schedule in one line: `UPCAST(out.0, 6) VEC(out.1, 16)`."""
    if opts is None:
        return "–"
    return " ".join(opt(entry) for entry in opts) or "as written"


def opt(entry: Sequence[Any]) -> str:
    """One opt of a schedule's JSON form: `SPLIT[LOOP](r0.0, 64)`."""
    if len(entry) != 5:
        return printable(str(list(entry)))
    kind, target, axis, amount, type_ = (printable(str(part)) if part is not None else "" for part in entry)
    return f"{kind}{f'[{type_}]' if type_ else ''}({target}.{axis}, {amount})"


def moment(timestamp: str) -> float:
    """An RFC 3339 time as epoch seconds."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def ago(timestamp: str | None, now: float | None = None) -> str:
    """How long ago, coarsely: `now`, `12 s ago`, `5 m ago`, `3 h ago`, `2 d ago`."""
    if timestamp is None:
        return "never"
    age = max(0.0, (datetime.now(UTC).timestamp() if now is None else now) - moment(timestamp))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if age >= max(length, 2):
            return f"{int(age // length)} {unit} ago"
    return "now"
