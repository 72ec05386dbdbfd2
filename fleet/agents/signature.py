"""How a node signs a request: one Authorization header, and the text that is signed. Shared by both sides; pure.

    Authorization: TinyFleet key=…, time=…, nonce=…, digest=…, signature=…

The digest of the body is in the header, so that the signature is checked before a byte of the body is read.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

SCHEME = "TinyFleet"
SERVER_TIME = (
    "TinyFleet-Time"  # on every 401 to a signed request: the server's clock, milliseconds since the epoch
)
WINDOW_S = 60.0  # how far a request's time may be from the server's
_VERSION = "tinyfleet-request-1"
_FIELDS = {
    "key": re.compile(r"[0-9a-f]{64}"),
    "time": re.compile(r"[0-9]{13}"),
    "nonce": re.compile(r"[0-9a-f]{32}"),
    "digest": re.compile(r"[0-9a-f]{64}"),
    "signature": re.compile(r"[0-9a-f]{128}"),
}


class Malformed(Exception):
    """The header is none of a signed request; the message says what is wrong with it."""


@dataclass(frozen=True)
class Signature:
    """The header's fields: the key's id, when it was signed (epoch milliseconds), a nonce, and the body's sha256."""

    key: str
    time_ms: int
    nonce: str
    digest: str
    signature: str = ""

    @property
    def at(self) -> float:
        """When it was signed by its signer's clock, epoch seconds."""
        return self.time_ms / 1000

    def text(self, method: str, target: str) -> bytes:
        """What is signed; `target` is the path with its query, as sent."""
        lines = (_VERSION, method.upper(), target, self.key, str(self.time_ms), self.nonce, self.digest)
        return "\n".join(lines).encode()

    def header(self) -> str:
        """The value of the Authorization header."""
        return (
            f"{SCHEME} key={self.key}, time={self.time_ms}, nonce={self.nonce}, digest={self.digest}, "
            f"signature={self.signature}"
        )


def parse(header: str) -> Signature:
    """The fields of an Authorization header of this scheme, each given once. Raises Malformed."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != SCHEME.lower():
        raise Malformed(f"the scheme is not {SCHEME}")
    pairs = [each.strip().partition("=") for each in rest.split(",")]
    fields = {name: value for name, _, value in pairs}
    if len(pairs) != len(_FIELDS) or fields.keys() != _FIELDS.keys():
        raise Malformed(f"a signature has exactly the fields {', '.join(_FIELDS)}")
    for name, shape in _FIELDS.items():
        if not shape.fullmatch(fields[name]):
            raise Malformed(f"the field {name} of the signature is not of its shape")
    return Signature(
        fields["key"], int(fields["time"]), fields["nonce"], fields["digest"], fields["signature"]
    )


def key_id(public_key: bytes) -> str:
    """What a key is called: the hex sha256 of its 32 public bytes."""
    return hashlib.sha256(public_key).hexdigest()


def body_digest(body: bytes) -> str:
    """The hex sha256 of a request's body."""
    return hashlib.sha256(body).hexdigest()


def enrolment_text(join_token: str, name: str, public_key: str) -> bytes:
    """What a node signs to show that it holds the key with which it joins."""
    spent = hashlib.sha256(join_token.encode()).hexdigest()
    return "\n".join(("tinyfleet-enrolment-1", spent, name, public_key)).encode()


def rotation_text(node_id: int, public_key: str) -> bytes:
    """What a node signs with its next key to show that it holds it."""
    return "\n".join(("tinyfleet-rotation-1", str(node_id), public_key)).encode()
