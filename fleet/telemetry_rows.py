"""The tables of what nodes last said about themselves, for control planes of several processes.

Nothing in them outlives its minute or its hour: on PostgreSQL they are UNLOGGED (a crash of the database empties
them, and the next push fills them again), on SQLite, where there is one process, they stay empty.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, ForeignKey, event
from sqlalchemy.orm import Mapped, mapped_column

from fleet.schema import Table

UNLOGGED = ("expositions", "telemetry_points")


class ExpositionRow(Table):
    """The latest text of a node, gzipped, when it came and when it was signed, and what was read in it."""

    __tablename__ = "expositions"
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    packed: Mapped[bytes]
    received_at: Mapped[float]
    signed_at: Mapped[float]
    reading: Mapped[dict[str, Any]]


class PointRow(Table):
    """One moment of a node's last hour: the readings of its GPUs."""

    __tablename__ = "telemetry_points"
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    at: Mapped[float] = mapped_column(primary_key=True)
    reading: Mapped[dict[str, Any]]


def unlogged(dialect: str) -> list[str]:
    """The statements by which a database stops keeping these tables safe."""
    return [f"ALTER TABLE {table} SET UNLOGGED" for table in UNLOGGED] if dialect == "postgresql" else []


def _unlog(_metadata: object, connection: Connection, **_: object) -> None:
    for statement in unlogged(connection.dialect.name):
        connection.exec_driver_sql(statement)


event.listen(Table.metadata, "after_create", _unlog)
