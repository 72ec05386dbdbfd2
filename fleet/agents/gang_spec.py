"""The wire about attempts that are one of several: of a gang, or of an array."""

from __future__ import annotations

from pydantic import Field

from fleet.agents.wire import Count, Name, Positive, Wire


class Peer(Wire):
    """One rank of a gang and where it runs."""

    rank: Count
    node: Name
    address: str = Field(max_length=253, description="the host name that its node reported")


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
