"""Whether a token of the suite got into what the suite wrote: files, logs, what tests print.

Every token that any test mints is a canary: it matches one regular expression and carries a checksum. A file may hold a token
when it holds nothing else, which is a token file; anything more is a leak, in base64 too (`Authorization: Basic`). It is
looked for when all tests have run, in their temporary folders, and in what pytest captured of each test; in what PostgreSQL
wrote when its server is thrown away (`tests.postgresql`).

Not looked at: what a test deletes, what is compressed, encrypted or broken into lines within a token, and folders elsewhere,
which those of `tests/attacks` and of the sshd in /run are.
"""

from __future__ import annotations

import base64
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet.redaction import TOKEN
from fleet.tenants import well_formed

KINDS = (b"tfu", b"tfs", b"tfn", b"tfj")
LENGTH = 53
_TOKEN = re.compile(rb"tf[usnj]_[0-9A-Za-z]{49}")  # among other letters too


def _encoded(before: int) -> tuple[int, re.Pattern[bytes]]:
    """A token in base64 with so many bytes before it in its group of three: which letter of its group of four is the first
    that is the token's alone, and an expression for it from there on."""

    def known(begin: bytes) -> bytes:
        return base64.b64encode(bytes(before) + begin + bytes(3))[first : (before + len(begin)) * 8 // 6]

    first = -(-before * 8 // 6)
    shared = known(b"tf")  # which the search may skip to
    begins = sorted({known(kind + b"_").removeprefix(shared) for kind in KINDS})
    rest = -(-(before + LENGTH) * 8 // 6) - first - len(shared) - len(begins[0])
    return first, re.compile(shared + b"(?:" + b"|".join(begins) + b")[0-9A-Za-z+/_-]{%d}" % rest)


_ENCODED = [(before, *_encoded(before)) for before in range(3)]


@dataclass
class Look:
    """What a look at everything found."""

    files: int = 0
    size: int = 0  # bytes of them
    token_files: int = 0
    leaks: tuple[str, ...] = ()


def look(folder: Path) -> Look:
    """Every plain file below the folder, databases included, without reading any whole."""
    found = Look()
    for path in plain_files(folder):
        size = path.stat().st_size
        found.files += 1
        found.size += size
        content = path.read_bytes() if size < 200 else b""
        if content and TOKEN.fullmatch(content.decode(errors="replace").strip()):
            found.token_files += 1
        elif held := holds_token(path):
            found.leaks += (f"{path.relative_to(folder)} holds {held}",)
    return found


def plain_files(folder: Path) -> Iterator[Path]:
    """Plain files below the folder that have a byte; links are not followed."""
    for parent, _, names in os.walk(folder):
        for path in map(Path(parent).joinpath, names):
            if not path.is_symlink() and path.is_file() and path.stat().st_size:
                yield path


def holds_token(path: Path) -> str:
    """The kind and beginning of the first real token in the file; empty when there is none."""
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return first_token(content)


def first_token(content: bytes | mmap.mmap) -> str:
    """The kind and beginning of the first token whose checksum is right: examples in texts have a wrong one."""
    for found in tokens(content):
        if well_formed(found):
            return f"a token, {found[:8]}…"
    return ""


def tokens(content: bytes | mmap.mmap) -> Iterator[str]:
    """What looks like a token, as it is and in base64."""
    for match in _TOKEN.finditer(content):
        yield match[0].decode()
    for before, first, expression in _ENCODED:
        for match in expression.finditer(content):
            letters = b"A" * first + match[0].replace(b"-", b"+").replace(b"_", b"/")
            decoded = base64.b64decode(letters + b"A" * (-len(letters) % 4))
            # a part of its first letter is in one that it shares
            yield "t" + decoded[before + 1 : before + LENGTH].decode(errors="replace")


def printed(sections: Iterable[tuple[str, str]]) -> str:
    """Which of the texts that pytest captured of a test holds a token; empty when none does."""
    for title, text in sections:
        if held := first_token(text.encode(errors="replace")):
            return f"{title} holds {held}"
    return ""
