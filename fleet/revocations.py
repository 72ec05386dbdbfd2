"""OpenSSH's key revocation list, written from what is revoked. Pure; the format is that of PROTOCOL.krl, version 1.

The same content gives the same bytes: what is on a node is compared with what is wanted there.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable

_MAGIC = b"SSHKRL\n\0"
_CERTIFICATES, _SHA256 = 1, 5
_SERIALS = 0x20


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _blob(line: str) -> bytes:
    """A key's bytes, of TYPE BASE64."""
    return base64.b64decode(line.split(" ")[1])


def revocation_list(authority: str | None, serials: Iterable[int], keys: Iterable[str]) -> bytes:
    """Certificates of `authority` (TYPE BASE64) by serial, and keys (TYPE BASE64) whatever they are used for."""
    numbers = sorted(set(serials)) if authority is not None else []
    hashes = sorted({hashlib.sha256(_blob(line)).digest() for line in keys})
    version = len(numbers) + len(hashes)
    parts = [_MAGIC, struct.pack(">IQQQ", 1, version, 0, 0), _string(b""), _string(b"tinyfleet")]
    if authority is not None and numbers:
        listed = bytes([_SERIALS]) + _string(b"".join(struct.pack(">Q", number) for number in numbers))
        parts += [bytes([_CERTIFICATES]), _string(_string(_blob(authority)) + _string(b"") + listed)]
    if hashes:
        parts += [bytes([_SHA256]), _string(b"".join(_string(each) for each in hashes))]
    return b"".join(parts)
