"""The tables of GPUs that were found at fault, and of cordons that nobody asked for."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet.cordoning import CordonKind
from fleet.lifecycle_gpus import GPU
from fleet.schema import Table, one_of


class GpuLadder(Table):
    """A GPU that was ever found at fault; one without a row is ok. `id` is its device's.

    `reason`: what it was blamed for; `detail`: how its last step went, and what an operator has to do. `falls`: when
    it was blamed, of late. `reset_at`: what happened before it is answered. `job_id`: its burn-in.
    """

    __tablename__ = "gpu_ladders"
    id: Mapped[int] = mapped_column(ForeignKey("devices.id"), primary_key=True, autoincrement=False)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), index=True)
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    reason: Mapped[str] = mapped_column(default="")
    detail: Mapped[str] = mapped_column(default="")
    falls: Mapped[list[Any]] = mapped_column(default=list)
    reset_at: Mapped[float | None]
    job_id: Mapped[int | None]
    __table_args__ = (one_of("state", GPU.states),)


class NodeCordon(Table):
    """A cordon of a node that is there for a reason, and goes with it. The operator's own is the node's `cordoned`."""

    __tablename__ = "node_cordons"
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    since: Mapped[float]
    __table_args__ = (one_of("kind", CordonKind),)
