"""A join token can be bound to a rack."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0830"
down_revision = "2026_11_26_0810"


def upgrade() -> None:
    """Those that are there are bound to none."""
    with op.batch_alter_table("tokens") as table:
        table.add_column(sa.Column("site", sa.String(), nullable=True))
        table.add_column(sa.Column("rack", sa.String(), nullable=True))
