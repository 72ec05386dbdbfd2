"""What attempts drew, and what is counted of it by tenant, node and day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0515"
down_revision = "2026_11_26_0450"


def upgrade() -> None:
    """Attempts that have ended keep what is known of them: nothing."""
    with op.batch_alter_table("attempts") as attempts:
        attempts.add_column(sa.Column("joules", sa.Double(), nullable=True))
        attempts.add_column(sa.Column("energy_method", sa.String(), nullable=True))
        attempts.add_column(sa.Column("throttled_s", sa.Double(), nullable=True))
    with op.batch_alter_table("usage_days") as days:
        for name in ("joules", "throttled_s"):
            days.add_column(sa.Column(name, sa.Double(), nullable=False, server_default="0"))
    with op.batch_alter_table("usage_days") as days:
        for name in ("joules", "throttled_s"):
            days.alter_column(name, server_default=None)
