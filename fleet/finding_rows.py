"""The table of what is wrong with nodes' devices by the samples that they last sent."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet.schema import Table


class FindingRow(Table):
    """One device that is not well; a device without a row is. `device`: gpu0, a drive's serial, or node."""

    __tablename__ = "findings"
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    verdict: Mapped[str]
    reason: Mapped[str]
    action: Mapped[str]
    since: Mapped[float]
