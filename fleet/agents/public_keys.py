"""SSH public keys as people send them: parsed strictly, judged, and written anew from what was parsed. Pure.

A line that somebody else wrote never reaches a file of sshd's: its options, its comment and its spacing are left
behind, and what is written is the key's type and its blob in base64. RFC 4253 (6.6), RFC 5656 (3.1) and OpenSSH's
PROTOCOL.u2f say how a blob is laid out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

SMALLEST_RSA, LARGEST_RSA = 3072, 16384
LONGEST = 16_384
_CURVES = {"nistp256": 32, "nistp384": 48, "nistp521": 66}  # the bytes of one coordinate
_ECDSA = {f"ecdsa-sha2-{curve}": curve for curve in _CURVES}
_SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
_SK_ED25519 = "sk-ssh-ed25519@openssh.com"
TYPES = ("ssh-ed25519", _SK_ED25519, *_ECDSA, _SK_ECDSA, "ssh-rsa")
_FIX = "make one with ssh-keygen -t ed25519"
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class KeyRefused(ValueError):
    """The text is no public key that is accepted; the message says why and what to do."""


@dataclass(frozen=True)
class PublicKey:
    """One public key. `bits`: of the modulus or the curve. `comment`: what its owner wrote behind it, for people to
    read; it is no part of the key."""

    type: str
    blob: bytes
    bits: int
    comment: str = ""

    @property
    def line(self) -> str:
        """As it stands in a file: type and base64, nothing that its owner wrote."""
        return f"{self.type} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it: SHA256: and unpadded base64."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")


def parse(text: str) -> PublicKey:
    """The key in one line `TYPE BASE64 [COMMENT]`. Raises KeyRefused for anything else, and for weak keys."""
    line = text.strip()
    _check_text(line)
    words = line.split(None, 2)
    if len(words) < 2:
        raise KeyRefused("this is no public key: give one line, TYPE BASE64, as a .pub file holds it")
    kind, encoded = words[0], words[1]
    _check_type(kind)
    blob = _decoded(encoded)
    parts = _Blob(blob)
    if parts.string() != kind.encode():
        raise KeyRefused(f"the key says that it is no {kind}: send the .pub file as it is")
    bits = _bits(kind, parts)
    parts.end()
    return PublicKey(kind, blob, bits, words[2] if len(words) > 2 else "")


def _check_text(line: str) -> None:
    if "PRIVATE KEY" in line:
        raise KeyRefused(
            "this is a PRIVATE key: it has been shown now, so throw it away, make another, and send the .pub file"
        )
    if len(line) > LONGEST:
        raise KeyRefused(f"longer than {LONGEST} characters: send one key")
    if not line.isprintable() and any(not each.isprintable() and each != "\t" for each in line):
        raise KeyRefused("send one key in one line, without control characters")


def _check_type(kind: str) -> None:
    if kind.endswith("-cert-v01@openssh.com"):
        raise KeyRefused("this is a certificate: send the plain public key, the file without -cert")
    if kind == "ssh-dss":
        raise KeyRefused(f"DSA keys are not accepted: {_FIX}")
    if kind not in TYPES:
        raise KeyRefused(
            "the first word has to be the key's type; options before a key are not accepted. Types: "
            + ", ".join(TYPES)
        )


def _decoded(encoded: str) -> bytes:
    try:
        if not _BASE64.fullmatch(encoded):
            raise binascii.Error
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise KeyRefused("the key's second word is not base64: send the .pub file as it is") from None


class _Blob:
    """Reads the strings of a key's blob, each behind its length in four bytes."""

    def __init__(self, blob: bytes) -> None:
        self._blob, self._at = blob, 0

    def string(self) -> bytes:
        """The next one. Raises KeyRefused when the blob ends before it does."""
        start = self._at + 4
        length = int.from_bytes(self._blob[self._at : start], "big")
        if start > len(self._blob) or start + length > len(self._blob):
            raise KeyRefused("the key is cut off: send the whole .pub file")
        self._at = start + length
        return self._blob[start : self._at]

    def number(self) -> int:
        """The next one as a positive integer in its shortest form."""
        found = self.string()
        if not found or found[0] & 0x80 or (len(found) > 1 and found[0] == 0 and not found[1] & 0x80):
            raise KeyRefused(f"the key's numbers are malformed: {_FIX}")
        return int.from_bytes(found, "big")

    def end(self) -> None:
        """KeyRefused when something follows."""
        if self._at != len(self._blob):
            raise KeyRefused("something follows the key in its second word: send the .pub file as it is")


def _bits(kind: str, parts: _Blob) -> int:
    """Read the rest of the key. Raises KeyRefused for what is malformed or weak."""
    if kind == "ssh-rsa":
        return _rsa_bits(parts)
    if kind in ("ssh-ed25519", _SK_ED25519):
        if len(parts.string()) != 32:
            raise KeyRefused(f"an ed25519 key has 32 bytes, this one has not: {_FIX}")
        bits = 256
    else:
        bits = _curve_bits(_ECDSA.get(kind, "nistp256"), parts)
    if kind.startswith("sk-") and not parts.string().startswith(b"ssh:"):
        raise KeyRefused(
            "the security key was enrolled for something else than ssh: make one with ssh-keygen"
        )
    return bits


def _rsa_bits(parts: _Blob) -> int:
    exponent, modulus = parts.number(), parts.number()
    bits = modulus.bit_length()
    if not SMALLEST_RSA <= bits <= LARGEST_RSA:
        raise KeyRefused(f"RSA of {bits} bits: {SMALLEST_RSA} to {LARGEST_RSA} are accepted; {_FIX}")
    if exponent < 65537 or exponent % 2 == 0 or modulus % 2 == 0:
        raise KeyRefused(f"this RSA key is weak (its exponent is {exponent}): {_FIX}")
    return bits


def _curve_bits(curve: str, parts: _Blob) -> int:
    size = _CURVES[curve]
    if parts.string() != curve.encode():
        raise KeyRefused("the key's curve is not the one that its type names: send the .pub file as it is")
    point = parts.string()
    if len(point) != 1 + 2 * size or point[0] != 4:
        raise KeyRefused(f"the key's point is malformed: {_FIX}")
    return int(curve.removeprefix("nistp"))
