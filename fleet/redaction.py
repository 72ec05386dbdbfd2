"""What may be written where others read: logs without secrets and without control characters, labels of one line.

One regular expression finds a token anywhere (`fleet.tenants` mints what it matches). It is applied to the whole
record as it would be written, so that it does not matter by which argument or traceback a secret came in.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time

TOKEN = re.compile(r"(?<![A-Za-z0-9_])(tf[usnj])_([0-9A-Za-z]{43})([0-9A-Za-z]{6})(?![A-Za-z0-9])")
_IN_TEXT = re.compile(r"(tf[usnj])_[0-9A-Za-z]{49}")  # also in the middle of other letters
LONGEST_LABEL = 200


def redact(text: str) -> str:
    """The text with every token replaced by its kind and a digest that tells two of them apart."""
    return _IN_TEXT.sub(_named, text)


def _named(match: re.Match[str]) -> str:
    return f"{match[1]}_[redacted:{hashlib.sha256(match[0].encode()).hexdigest()[:8]}]"


def printable(text: str) -> str:
    """The text on one line: control and formatting characters, and halves of surrogate pairs, are escaped."""
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def label(value: object) -> str:
    """A value as a metric's label: printable, redacted and short. One lone surrogate would fail the whole exposition."""
    text = redact(printable(str(value)))
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


class JsonLines(logging.Formatter):
    """A record as one line of JSON, redacted when it is formatted, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; ASCII, so that no terminal acts on it."""
        document = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            document["stack"] = record.stack_info
        # each value before it is JSON too: there, an escape before a token would hide it
        return redact(json.dumps({name: redact(value) for name, value in document.items()}))
