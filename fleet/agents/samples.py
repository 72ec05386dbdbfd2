"""A measured number on its way to an exposition. The parent of nearly nothing: a node's telemetry imports little."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_LONGEST_VALUE = 120  # of a label: what hardware calls itself may be anything


class Sample(NamedTuple):
    """One value of one series. `labels` is their text as `labels` makes it, empty for none."""

    name: str
    labels: str
    value: float


@lru_cache(maxsize=65536)
def labels(**pairs: str) -> str:
    """The text of labels, escaped, in the order given; the same pairs are put together once."""
    return ",".join(f'{name}="{_value(text)}"' for name, text in pairs.items())


def _value(text: str) -> str:
    """What firmware says may be padded, hold NULs or be no text at all."""
    clean = "".join(
        letter if letter.isprintable() else "�" for letter in text.replace("\0", "").strip()[:_LONGEST_VALUE]
    )
    return clean.translate(_ESCAPES)


@lru_cache(maxsize=65536)
def joined(text: str, **pairs: str) -> str:
    """Labels with more of them behind."""
    return ",".join(filter(None, (text, labels(**pairs))))


class Readings:
    """Samples as a probe collects them. What a device does not have is None, and becomes no sample: never a 0."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def add(self, name: str, text: str, value: float | None, scale: float = 1.0) -> None:
        """One value, times `scale`; nothing for None and for what is no finite number."""
        if value is None or not math.isfinite(value):
            return
        if scale < 1.0:
            value = value / round(1.0 / scale)  # 41 % are 0.41, not 0.41000000000000003
        elif scale > 1.0:
            value = value * scale
        self.samples.append(Sample(name, text, value))

    def state(self, name: str, text: str, label: str, states: Iterable[str], current: str) -> None:
        """A set of states, of which one is: 1 for it, 0 for the others."""
        for each in states:
            self.samples.append(Sample(name, joined(text, **{label: each}), int(each == current)))
