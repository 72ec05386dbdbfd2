"""Blobs know when they were touched last: what was asked for a short time ago is not collected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0430"
down_revision = "2026_11_26_0420"


def upgrade() -> None:
    """NULL: not since it was uploaded."""
    op.add_column("blobs", sa.Column("touched_at", sa.Double(), nullable=True))
