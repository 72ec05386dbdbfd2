"""Data sets of tenants, and which of them nodes keep."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0440"
down_revision = "2026_11_26_0430"
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Nodes say what they keep with their next report."""
    op.create_table(
        "data_sets",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("files", WIDE, nullable=False),
        sa.Column("bytes", WIDE, nullable=False),
        sa.Column("parts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_data_sets_tenant_tenants"),
        sa.PrimaryKeyConstraint("tenant", "address", name="pk_data_sets"),
    )
    op.create_table(
        "node_data",
        sa.Column("node_id", WIDE, nullable=False),
        sa.Column("data_sets", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("said_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_node_data_node_id_nodes"),
        sa.PrimaryKeyConstraint("node_id", name="pk_node_data"),
    )
