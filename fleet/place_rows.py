"""The tables of where nodes stand: racks, and which node is in which."""

from __future__ import annotations

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from fleet.schema import Table


class Rack(Table):
    """A cabinet of a site; `power_budget_watts` is what its nodes may draw together, when somebody has said it."""

    __tablename__ = "racks"
    id: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str]
    name: Mapped[str]
    power_budget_watts: Mapped[float | None]
    __table_args__ = (UniqueConstraint("site", "name"),)


class Place(Table):
    """The rack that a node stands in, and the most that it can draw by its maker's word."""

    __tablename__ = "places"
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    rack_id: Mapped[int] = mapped_column(ForeignKey("racks.id"), index=True)
    nameplate_watts: Mapped[float | None]
