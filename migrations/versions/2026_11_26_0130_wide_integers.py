"""On PostgreSQL every integer has 64 bits, as on SQLite: bytes of memory do not fit in 32."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0130"
down_revision = "2026_11_26_0040"


def upgrade() -> None:
    """Columns only: SQLite's are as wide already."""
    bind = op.get_bind()
    if bind.dialect.name != "postgresql":
        return
    found = sa.inspect(bind)
    for table in found.get_table_names():
        for column in found.get_columns(table):
            if isinstance(column["type"], sa.INTEGER) and not isinstance(column["type"], sa.BIGINT):
                op.alter_column(table, column["name"], type_=sa.BigInteger())
