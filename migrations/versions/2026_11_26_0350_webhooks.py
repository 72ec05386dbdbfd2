"""Webhooks and their deliveries; events in the order of transactions, where several write at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0350"
down_revision = "2026_11_26_0340"
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Events that were there before come first: of transaction 0."""
    op.add_column("events", sa.Column("xid", WIDE, nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("UPDATE events SET xid = 0")
        op.execute("ALTER TABLE events ALTER COLUMN xid SET DEFAULT (pg_current_xact_id()::text::bigint)")
        op.create_index("ix_events_order", "events", ["xid", "id"])
    op.create_table(
        "webhooks",
        sa.Column("id", WIDE, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("tenant", "name", "host", "shape")),
        sa.Column("kinds", JSON, nullable=False),
        *(sa.Column(name, WIDE, nullable=False) for name in ("generation", "cursor", "deaths")),
        sa.Column("disabled_at", sa.Double(), nullable=True),
        sa.Column("disabled_reason", sa.String(), nullable=False),
        sa.Column("removed_at", sa.Double(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("shape IN ('standard', 'slack', 'discord')", name=op.f("ck_webhooks_shape")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_webhooks_tenant_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    _index("uq_webhooks_live_name", "webhooks", ["tenant", "name"], "removed_at IS NULL", unique=True)
    op.create_table(
        "deliveries",
        *(sa.Column(name, WIDE, nullable=False) for name in ("id", "webhook_id", "event_id", "turn")),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("kind", "message_id", "body", "state")),
        sa.Column("state_at", sa.Double(), nullable=False),
        *(sa.Column(name, WIDE, nullable=False) for name in ("generation", "tries")),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("status", WIDE, nullable=True),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'dead')", name=op.f("ck_deliveries_state")),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name="fk_deliveries_webhook_id_webhooks"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("webhook_id", "event_id", "turn", name="uq_deliveries_webhook_id_event_id_turn"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_deliveries_page", "deliveries", ["webhook_id", "id"])
    _index("ix_deliveries_due", "deliveries", ["next_at"], "state = 'pending'")


def _index(name: str, table: str, columns: list[str], where: str, unique: bool = False) -> None:
    op.create_index(
        name,
        table,
        columns,
        unique=unique,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
