"""Files that end in a digest of what stands before it: a torn one is known from a whole one.

Compiled code can be made again, so it is not synced to the disk, which takes longer than to compile it. What it must
not be is run when a power cut has left a part of it. Loaders of machine code ignore what follows its last section.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine import durable

_MARK = b"\nsha3-256:"
_LENGTH = len(_MARK) + 64


def seal(content: bytes) -> bytes:
    """What goes behind the content."""
    return _MARK + hashlib.sha3_256(content).hexdigest().encode()


def write_sealed(path: Path, content: bytes) -> None:
    """Write the content and its seal under that name, by an atomic rename: a reader sees all of it or nothing."""
    durable.write(path, content + seal(content), sync=False)


def intact(path: Path) -> bool:
    """Whether the file is there, whole."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return False
    return len(found) > _LENGTH and found[-_LENGTH:] == seal(found[:-_LENGTH])
