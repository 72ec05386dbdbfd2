"""What the API answers about releases and updates, shared by the routes and the SDK."""

from __future__ import annotations

from pydantic import Field

from fleet.resources import Resource, Timestamp


class Release(Resource):
    """A release that nodes can install."""

    version: str
    kinds: list[str] = Field(description="the Pythons and machines that it is for, as cp311-x86_64")
    files: int
    bytes: int


class NodeVersion(Resource):
    """A node's version, and its part in the rollout."""

    id: int
    name: str
    version: str = Field(description="what its agent last said it is")
    ring: str = Field(default="", description="canary or rest; empty before it was its turn")
    state: str = Field(
        default="", description="offered, updated, failed or withdrawn; empty before it was its turn"
    )
    note: str = Field(default="", description="how far it is, why it went back, or why it is not asked")


class Updates(Resource):
    """Which version the fleet is meant to run, and how far it has come."""

    wanted: str | None = Field(default=None, description="null: nobody has said; each node stays as it is")
    stage: str | None = Field(default=None, description="canary: the first ring; rest: everybody")
    paused: bool = False
    reason: str = Field(default="", description="why it is paused")
    canary: list[str] = Field(default_factory=list, description="the nodes that go first, if they were named")
    canaries: int = Field(default=1, description="else how many of them")
    soak_s: float = Field(
        default=0.0, description="how long the canaries run it without a failure before the others"
    )
    at_once: int = Field(default=1, description="how many nodes change at the same time")
    since: Timestamp | None = Field(default=None, description="when this stage began")
    nodes: list[NodeVersion] = Field(default_factory=list)
