"""The table of what has to be used again and may not be read: the credentials of webhooks and forges, encrypted."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet.schema import Table


class StoredSecret(Table):
    """A secret of a tenant; `box` is its ciphertext, `version` grows with each value. Times are epoch seconds."""

    __tablename__ = "secrets"
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    box: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)
    created_by: Mapped[str]
    created_at: Mapped[float]
    updated_at: Mapped[float]
