"""Secrets on their way into an attempt: in memory that no file system has, handed on as a descriptor, read once.

The agent fetches them, its zygote passes the descriptor on without looking, and the attempt's supervisor reads it: nothing of
it is on a disk, and nothing in a process that other attempts are forked from.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping

_SHORTEST = 4  # what is shorter would blot out every log
_SHORTEST_LINE = 8
HIDDEN = b"[secret]"


def seal(secrets: Mapping[str, str]) -> int:
    """A descriptor that holds them: variable → value."""
    descriptor = os.memfd_create("secrets", os.MFD_CLOEXEC)
    content = json.dumps(dict(secrets)).encode()
    while content:
        content = content[os.write(descriptor, content) :]
    return descriptor


def unseal(descriptor: int) -> dict[str, str]:
    """What a descriptor of `seal` holds; it is closed. Empty for none (-1)."""
    if descriptor < 0:
        return {}
    try:
        size = os.fstat(descriptor).st_size
        found: dict[str, str] = json.loads(os.pread(descriptor, size, 0))
    finally:
        os.close(descriptor)
    return found


class Redactor:
    """Takes secrets out of one stream, however the stream is cut into pieces."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spelled = {each for value in secrets for each in spellings(value)}
        self._marks = sorted(spelled, key=lambda mark: (-len(mark), mark))
        self._held = b""

    def __call__(self, piece: bytes) -> bytes:
        """What of it, and of what was held back before, can be shown now: an end that could begin a secret is held."""
        if not self._marks:
            return piece
        text = self._hidden(self._held + piece)
        keep = self._begun(text)
        self._held = text[len(text) - keep :] if keep else b""
        return text[: len(text) - keep] if keep else text

    def rest(self) -> bytes:
        """What was held back, at the end of the stream."""
        held, self._held = self._held, b""
        return held

    def _hidden(self, text: bytes) -> bytes:
        for mark in self._marks:
            text = text.replace(mark, HIDDEN)
        return text

    def _begun(self, text: bytes) -> int:
        """The length of the longest end of the text that is the beginning of a secret."""
        return max(_overlap(text, mark) for mark in self._marks)


def _overlap(text: bytes, mark: bytes) -> int:
    """How much of the text's end is the beginning of the mark, but not all of it."""
    at = text.find(mark[:1], max(0, len(text) - len(mark) + 1))
    while at >= 0 and not mark.startswith(text[at:]):
        at = text.find(mark[:1], at + 1)
    return len(text) - at if at >= 0 else 0


def spellings(value: str) -> set[bytes]:
    """How a secret may stand in a log: as it is, each long line of it, and in base64; nothing for one too short to be
    told from other text."""
    raw = value.encode(errors="surrogatepass")
    if len(raw) < _SHORTEST:
        return set()
    found = {raw, base64.b64encode(raw)}
    if len(raw.strip()) >= _SHORTEST:  # a file's last line end is not always printed with it
        found |= {raw.strip(), base64.b64encode(raw.strip())}
    return found | {line.strip() for line in raw.splitlines() if len(line.strip()) >= _SHORTEST_LINE}
