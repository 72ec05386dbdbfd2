"""What agents offer to commands beside what all of them do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0530"
down_revision = "2026_11_26_0515"


def upgrade() -> None:
    """Nodes say it with their next inventory."""
    with op.batch_alter_table("nodes") as table:
        table.add_column(sa.Column("features", sa.JSON(none_as_null=True), nullable=True))
