"""By when a node is drained."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0450"
down_revision = "2026_11_26_0440"


def upgrade() -> None:
    """What drains now has no deadline."""
    op.add_column("nodes", sa.Column("drain_by", sa.Double(), nullable=True))
