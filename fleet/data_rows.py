"""The tables of data sets: those that tenants have pushed, and those that nodes keep, as they last said."""

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


class StoredDataSet(Table):
    """A data set of a tenant; `parts` are the blobs of its files, which are kept for as long as it is."""

    __tablename__ = "data_sets"
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    files: Mapped[int]
    bytes: Mapped[int]
    parts: Mapped[list[Any]]
    created_by: Mapped[str]
    created_at: Mapped[float]


class BlobHolder(Table):
    """Who has shown that they have the bytes of a blob, or whose job made them: `tenant:NAME` or `node:ID`."""

    __tablename__ = "blob_holders"
    address: Mapped[str] = mapped_column(
        ForeignKey("blobs.address", ondelete="CASCADE"), primary_key=True
    )  # a blob that is collected, or lost its row otherwise, is held by nobody
    holder: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[float]
