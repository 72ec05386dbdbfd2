"""The tables of box models, of nodes held against them, and of the stock."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet.lifecycle_boxes import ACCEPTANCE, BOX
from fleet.schema import Table, one_of, partial_index


class BoxModelRow(Table):
    """A model of box: what one of it must be. `limits` is what `box_limits.Limits` says."""

    __tablename__ = "box_models"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    limits: Mapped[dict[str, Any]]
    updated_at: Mapped[float]
    updated_by: Mapped[str]


class Acceptance(Table):
    """A node held against a model, the last time. `id` is the node's; `jobs`: burn-ins by device; `lines`: the verdict."""

    __tablename__ = "acceptances"
    id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True, autoincrement=False)
    model: Mapped[str]
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    asked_at: Mapped[float]
    asked_by: Mapped[str]
    jobs: Mapped[dict[str, Any]] = mapped_column(default=dict)
    lines: Mapped[list[Any]] = mapped_column(default=list)
    __table_args__ = (one_of("state", ACCEPTANCE.states),)


class Box(Table):
    """A box of the stock, whether it is a node or not. `node`: the name of the node that it is, or will be."""

    __tablename__ = "boxes"
    id: Mapped[int] = mapped_column(primary_key=True)
    serial: Mapped[str] = mapped_column(unique=True)
    model: Mapped[str] = mapped_column(index=True)
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    place: Mapped[str] = mapped_column(default="")
    node: Mapped[str | None]
    note: Mapped[str] = mapped_column(default="")
    added_at: Mapped[float]
    added_by: Mapped[str]
    __table_args__ = (
        one_of("state", BOX.states),
        partial_index("uq_boxes_node", "node", where="node IS NOT NULL AND state != 'scrapped'", unique=True),
    )
