"""What walls round attempts a node reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "walls"
down_revision = "0001"


def upgrade() -> None:
    """Nodes of older agents report none."""
    op.add_column("nodes", sa.Column("walls", sa.JSON(), nullable=True))
