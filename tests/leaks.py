"""Whether a token of the suite got into what the suite wrote: files, logs, what tests print.

Every token that any test mints is a canary: it matches one regular expression and carries a checksum. A file may hold a token
when it holds nothing else, which is a token file; anything more is a leak. It is looked for when all tests have run, in
their temporary folders, and in what pytest captured of each test.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet.redaction import TOKEN
from fleet.tenants import well_formed

_TOKEN = re.compile(TOKEN.pattern.encode())


@dataclass
class Look:
    """What a look at everything found."""

    files: int = 0
    token_files: int = 0
    leaks: tuple[str, ...] = ()


def look(folder: Path) -> Look:
    """Every plain file below the folder, databases included, without reading any whole."""
    found = Look()
    for path in plain_files(folder):
        found.files += 1
        content = path.read_bytes() if path.stat().st_size < 200 else b""
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
    for match in _TOKEN.finditer(content):
        if well_formed(match[0].decode()):
            return f"a token, {match[1].decode()}_{match[2].decode()[:4]}…"
    return ""


def printed(sections: Iterable[tuple[str, str]]) -> str:
    """Which of the texts that pytest captured of a test holds a token; empty when none does."""
    for title, text in sections:
        if held := first_token(text.encode(errors="replace")):
            return f"{title} holds {held}"
    return ""
