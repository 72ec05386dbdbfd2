"""What the API answers about what is collected, shared by the route and the SDK."""

from __future__ import annotations

from pydantic import Field

from fleet.agents.protocol import Hash
from fleet.resources import Resource


class CollectedKind(Resource):
    """One kind of what has gone, or would."""

    kind: str = Field(examples=["events"])
    rows: int
    bytes: int = Field(description="of their contents, where that is more than a row; 0 otherwise")


class CollectedBlob(Resource):
    """A blob that nothing refers to."""

    hash: Hash
    size: int


class Collected(Resource):
    """What has gone, or would go. The audit is never among it."""

    dry_run: bool
    kinds: list[CollectedKind]
    blobs: list[CollectedBlob] = Field(description="one by one, the first thousand")
    bytes: int = Field(description="of all kinds together")
    more: bool = Field(description="this pass was full: the next one takes more")
