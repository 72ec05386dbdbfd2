"""What protocol version 3 has beyond 2 of what agents are told, as its agents have it; recorded when version 4 began: it is not
to be changed. Jobs of kind command are not told to them any more (fleet/dialects.py).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StrictInt

from tests.recorded import protocol_2
from tests.recorded.protocol_2 import Count, Name, Positive, Wire
from tests.recorded.protocol_2 import EnrollRequest as EnrollRequest
from tests.recorded.protocol_2 import EnrollResponse as EnrollResponse
from tests.recorded.protocol_2 import Inventory as Inventory
from tests.recorded.protocol_2 import Observed as Observed

PROTOCOL_VERSION = 3
Version = Annotated[str, Field(max_length=64)]


class Peer(Wire):
    """One rank of a gang and where it runs."""

    rank: Count
    node: Name
    address: str = Field(max_length=253)


class Gang(Wire):
    """Which rank of a gang an attempt is, where the ranks meet (host:port on rank 0's node), and who they are."""

    rank: Count
    ranks: Positive
    rendezvous: str = Field(max_length=300)
    peers: list[Peer] = Field(max_length=1024)


class ArrayIndex(Wire):
    """Which job of an array an attempt is of: `index` from 0 to `size` - 1."""

    array_id: Positive
    index: Count
    size: Positive


class UpdateSpec(Wire):
    """The version that a node shall run."""

    version: Version


class AttemptSpec(protocol_2.AttemptSpec):
    """One attempt the agent should be running."""

    gpus: list[Name] = Field(default_factory=list, max_length=64)
    cpus: StrictInt = Field(default=1, ge=1, le=4096)
    gang: Gang | None = None
    array: ArrayIndex | None = None


class Desired(protocol_2.Desired):
    """Server to agent: everything it should be running."""

    attempts: list[AttemptSpec]  # type: ignore[assignment]
    access: dict[str, Any] | None = None
    update: UpdateSpec | None = None
