"""The table of the data sets that nodes keep, as they last said."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet.schema import Table


class NodeData(Table):
    """Data set → bytes, of one node; `said_at` in epoch seconds."""

    __tablename__ = "node_data"
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    data_sets: Mapped[dict[str, Any]]
    said_at: Mapped[float]
