"""The tables of updates: which version is wanted, and how far each node has come with it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from fleet.lifecycle_updates import ROLLOUT, UPDATE
from fleet.schema import Table, one_of


class Rollout(Table):
    """A version that was wanted; the one that is not superseded is. Times are epoch seconds.

    `canary`: the names of the nodes that get it first; with none, so many as `canaries` says. `soak_s`: how long they
    run it without a failure before the others get it. `at_once`: how many nodes may be at it at the same time.
    """

    __tablename__ = "rollouts"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[str]
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    canary: Mapped[list[Any]] = mapped_column(default=list)
    canaries: Mapped[int] = mapped_column(default=1)
    soak_s: Mapped[float]
    at_once: Mapped[int] = mapped_column(default=1)
    paused: Mapped[bool] = mapped_column(default=False)
    reason: Mapped[str] = mapped_column(default="")  # why it is paused
    looked_at: Mapped[float] = mapped_column(
        default=0.0
    )  # failures before it count no more: an operator has looked
    created_at: Mapped[float]
    created_by: Mapped[str]
    __table_args__ = (one_of("state", ROLLOUT.states),)


class NodeUpdate(Table):
    """One node's part in a rollout; `ring` is the one in which it was offered."""

    __tablename__ = "node_updates"
    id: Mapped[int] = mapped_column(primary_key=True)
    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"))
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), index=True)
    ring: Mapped[str]
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    offered_at: Mapped[float]
    progress: Mapped[str] = mapped_column(default="")  # what the node last said of it
    error: Mapped[str] = mapped_column(default="")
    __table_args__ = (
        one_of("state", UPDATE.states),
        one_of("ring", ["canary", "rest"]),
        UniqueConstraint("rollout_id", "node_id"),
    )
