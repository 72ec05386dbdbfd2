"""Which version nodes are meant to run, how far each has come, and which protocol its agent speaks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0410"
down_revision = "2026_11_26_0400"
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Every agent that has joined before speaks version 2, and cannot change its version by itself."""
    with op.batch_alter_table("nodes") as table:
        table.add_column(sa.Column("protocol", WIDE, nullable=False, server_default="2"))
        table.add_column(sa.Column("updatable", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("nodes") as table:
        table.alter_column("protocol", existing_type=WIDE, server_default=None)
        table.alter_column("updatable", existing_type=sa.Boolean(), server_default=None)
    op.create_table(
        "rollouts",
        sa.Column("id", WIDE, nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("generation", WIDE, nullable=False),
        sa.Column("canary", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("canaries", WIDE, nullable=False),
        sa.Column("soak_s", sa.Double(), nullable=False),
        sa.Column("at_once", WIDE, nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("looked_at", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.CheckConstraint("state IN ('canary', 'rest', 'superseded')", name=op.f("ck_rollouts_state")),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
    )
    op.create_table(
        "node_updates",
        sa.Column("id", WIDE, nullable=False),
        sa.Column("rollout_id", WIDE, nullable=False),
        sa.Column("node_id", WIDE, nullable=False),
        sa.Column("ring", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("generation", WIDE, nullable=False),
        sa.Column("offered_at", sa.Double(), nullable=False),
        sa.Column("progress", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.CheckConstraint(
            "state IN ('offered', 'updated', 'failed', 'withdrawn')", name=op.f("ck_node_updates_state")
        ),
        sa.CheckConstraint("ring IN ('canary', 'rest')", name=op.f("ck_node_updates_ring")),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_node_updates_rollout_id_rollouts"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_node_updates_node_id_nodes"),
        sa.PrimaryKeyConstraint("id", name="pk_node_updates"),
        sa.UniqueConstraint("rollout_id", "node_id", name="uq_node_updates_rollout_id_node_id"),
    )
    op.create_index("ix_node_updates_node_id", "node_updates", ["node_id"])
