"""Where a waiting job's start is planned, and how long jobs of a kind have run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0420"
down_revision = "2026_11_26_0410"

WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Nothing is known of what ran before."""
    op.add_column("jobs", sa.Column("planned", sa.JSON(), nullable=True))
    op.create_table(
        "run_times",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("count", WIDE, nullable=False),
        sa.Column("mean_s", sa.Double(), nullable=False),
        sa.Column("deviation_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_run_times"),
    )
