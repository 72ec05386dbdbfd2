"""What a node says about itself in Prometheus' text format: the rules for such a text, and what is read out of it.

The text is kept and served as it came. It is checked when it arrives, because a line that cannot be read, or a label
that says where a node sits, would spoil the scrape later, where its sender no longer hears of it.
"""

from __future__ import annotations

import hashlib
import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from fleet.errors import InvalidSpec, TooLarge

MAX_PACKED_BYTES = 1 << 20  # as sent
MAX_TEXT_BYTES = 4 << 20
MAX_LINES = 20_000
MAX_LINE_BYTES = 4096
_KEPT = 512  # characters of labels that are worth keeping: a node could fill the memory with longer ones
# Where a node sits is said by discovery (target labels), never by the node.
TARGET_LABELS = ("site", "rack", "model", "pool", "node", "instance", "job")
# Said by the API alone: what a building gives, not what a node takes.
OURS = ("fleet_feed_capacity_watts", "fleet_rack_power_budget_watts", "fleet_node_nameplate_watts")

_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*+="(?:[^"\\\n]|\\[\\"n])*+"'
_NUMBER = r"(?:[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?|[+-]?Inf|NaN)"
_SAMPLE = rf"fleet_[a-zA-Z0-9_]++(?:\{{(?:{_LABEL}(?:,{_LABEL})*+,?)?\}})? {_NUMBER}"
_NUMBERS = re.compile(rf" {_NUMBER}\n".encode())
_LINE = re.compile(rf"(?:{_SAMPLE}|#[^\n]*+)?")
_TEXT = re.compile(rf"(?:(?:{_SAMPLE}|#[^\n]*+)?\n)*+")
_TARGET_LABEL = re.compile(rf'^[^#\n][^\n]*[{{,]({"|".join(TARGET_LABELS)})="', re.MULTILINE)
_QUICK_TARGET_LABEL = re.compile(rf'[{{,](?:{"|".join(TARGET_LABELS)})="')
_OURS = re.compile(rf"^(?:{'|'.join(OURS)})\b", re.MULTILINE)
_LABELS = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


def unpacked(sent: bytes, encoding: str) -> bytes:
    """The text of a body, `encoding` being its Content-Encoding: gzip or none. InvalidSpec and TooLarge.

    What unpacks to more than it may is given up before it is in memory.
    """
    if encoding != "gzip":
        return sent
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        text = inflate.decompress(sent, MAX_TEXT_BYTES + 1)
    except zlib.error as error:
        raise InvalidSpec("body", f"it is not gzip, as Content-Encoding says: {error}") from error
    if len(text) <= MAX_TEXT_BYTES and (not inflate.eof or inflate.unused_data):
        raise InvalidSpec("body", "it is not one whole gzip stream: send it in one piece")
    return text


def check(text: bytes) -> str:
    """The text decoded, when it is a node's exposition. InvalidSpec names the first line that is not; TooLarge."""
    if len(text) > MAX_TEXT_BYTES:
        raise TooLarge("an exposition", len(text), MAX_TEXT_BYTES)
    try:
        found = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidSpec("body", f"it is not UTF-8, at byte {error.start}") from error
    lines = found.count("\n")
    if lines > MAX_LINES:
        raise InvalidSpec("body", f"{lines} lines are more than {MAX_LINES}: export fewer series")
    if not _TEXT.fullmatch(found) or max(map(len, found.split("\n"))) > MAX_LINE_BYTES:
        raise _wrong_line(found)
    _check_names(found)
    return found


class Checker:
    """Checks texts, and remembers the shapes of those that were right: a node's next text differs in its numbers only.

    A known shape costs a fifth of a whole check. May be used from any thread.
    """

    def __init__(self, remembered: int = 4096) -> None:
        self._remembered = remembered
        self._lock = threading.Lock()
        self._shapes: OrderedDict[bytes, None] = OrderedDict()

    def check(self, text: bytes) -> str:
        """As `check`."""
        if len(text) > MAX_TEXT_BYTES or b"\0" in text:  # which stands for a number in a shape
            return check(text)
        shape = hashlib.blake2b(_NUMBERS.sub(b"\0\n", text), digest_size=16).digest()
        with self._lock:
            known = shape in self._shapes
            if known:
                self._shapes.move_to_end(shape)
        if known:
            return text.decode("utf-8")
        found = check(text)
        with self._lock:
            self._shapes[shape] = None
            if len(self._shapes) > self._remembered:
                self._shapes.popitem(last=False)
        return found


def _check_names(found: str) -> None:
    if _QUICK_TARGET_LABEL.search(found):
        taken = _TARGET_LABEL.search(found)
        if taken is not None:
            raise InvalidSpec(
                f"line {_line_of(found, taken.start())}",
                f"the label {taken[1]} says where a node sits: discovery adds it, leave it out",
            )
    ours = _OURS.search(found)
    if ours is not None:
        raise InvalidSpec(f"line {_line_of(found, ours.start())}", f"{ours[0]} is said by the API alone")


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _wrong_line(found: str) -> InvalidSpec:
    lines = found.split("\n")
    for number, line in enumerate(lines[:-1], 1):
        if len(line) > MAX_LINE_BYTES:
            return InvalidSpec(
                f"line {number}", f"{len(line)} characters are more than {MAX_LINE_BYTES}: shorten its labels"
            )
        if not _LINE.fullmatch(line):
            return InvalidSpec(
                f"line {number}",
                f"{line[:120]!r} is no sample of a fleet_ series without a timestamp, such as "
                'fleet_gpu_power_watts{gpu="0"} 312.5',
            )
    return InvalidSpec(f"line {len(lines)}", "it does not end: every line ends with a line feed")


@dataclass(frozen=True)
class Sample:
    """One line of a text: a series and its value. `labels` in the order in which they were written."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float

    def label(self, name: str) -> str:
        """One label; empty when the series has none of that name."""
        return next((value for key, value in self.labels if key == name), "")


class Reader:
    """Reads the samples of some families out of checked texts; a fifth of a microsecond for a line of another family."""

    def __init__(self, *names: str) -> None:
        wanted = "|".join(map(re.escape, names))
        self._series = re.compile(rf"\n({wanted})(?:\{{(.*)\}})? (\S+)(?=\n|$)")

    def read(self, text: str) -> Iterator[Sample]:
        """Every sample of the families, in the order of the text."""
        for name, labels, value in self._series.findall("\n" + text):
            yield Sample(name, _pairs(labels), float(value))


def _pairs(labels: str) -> tuple[tuple[str, str], ...]:
    return _kept_pairs(labels) if len(labels) <= _KEPT else _read_pairs(labels)


@lru_cache(maxsize=1 << 16)  # a node's series are the same in each of its texts
def _kept_pairs(labels: str) -> tuple[tuple[str, str], ...]:
    return _read_pairs(labels)


def _read_pairs(labels: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, _unescaped(said)) for key, said in _LABELS.findall(labels))


def _unescaped(said: str) -> str:
    return (
        said if "\\" not in said else _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], said)
    )
