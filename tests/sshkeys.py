"""Public keys that nobody holds, as many as a test wants."""

from __future__ import annotations

import base64
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet.agents.public_keys import PublicKey, parse


def public_key(number: int) -> PublicKey:
    """The ed25519 key of this number, the same each time."""
    secret = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
    parts = (b"ssh-ed25519", secret.public_key().public_bytes_raw())
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return parse(f"ssh-ed25519 {base64.b64encode(blob).decode()}")
