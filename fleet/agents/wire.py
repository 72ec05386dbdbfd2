"""What every message of the protocol is made of: the strict model, the names, the numbers, and how bytes are addressed."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

# A blob's address, a kernel's content hash, a schedule's hash: hex SHA3-256.
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
# Every client's numbers hold an integer of this size exactly, and so does every column of the database.
LARGEST_INT = (1 << 53) - 1
Count = Annotated[StrictInt, Field(ge=0, le=LARGEST_INT)]
Positive = Annotated[StrictInt, Field(ge=1, le=LARGEST_INT)]


class Wire(BaseModel):
    """A message: unknown fields are refused, so that a typo is an error and not a surprise."""

    model_config = ConfigDict(extra="forbid")


def canonical_hash(document: Any) -> str:
    """Hex SHA3-256 of a JSON value's canonical text (sorted keys, no spaces)."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha3_256(text.encode()).hexdigest()


def blob_address(content: bytes) -> str:
    """A blob's address: hex SHA3-256 of its bytes."""
    return hashlib.sha3_256(content).hexdigest()
