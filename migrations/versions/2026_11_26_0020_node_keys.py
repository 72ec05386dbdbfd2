"""Nodes sign with keys of their own: keys, nonces and standings; node tokens end; join tokens name a pool."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0020"
down_revision = "walls"


def upgrade() -> None:
    """Nodes that joined with a bearer token have to join again: that token is refused from here on."""
    op.add_column("tokens", sa.Column("pool", sa.String(), nullable=True))
    op.create_table(
        "node_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("public_key", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_node_keys_node_id_nodes"),
        sa.PrimaryKeyConstraint("id", name="pk_node_keys"),
    )
    op.create_index("ix_node_keys_node_id", "node_keys", ["node_id"])
    op.create_table(
        "nonces",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "nonce", name="pk_nonces"),
    )
    op.create_index("ix_nonces_expires_at", "nonces", ["expires_at"])
    op.create_table(
        "node_standings",
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("trust", sa.String(), nullable=False),
        sa.Column("trust_at", sa.Double(), nullable=False),
        sa.Column("trust_reason", sa.String(), nullable=False),
        sa.Column("signed_from", sa.Double(), nullable=False),
        sa.Column("boot_signed_at", sa.Double(), nullable=True),
        sa.Column("contested_at", sa.Double(), nullable=True),
        sa.Column("rotate", sa.Boolean(), nullable=False),
        sa.Column("join_token_id", sa.Integer(), nullable=True),
        sa.CheckConstraint("trust IN ('sealed', 'shared', 'tainted')", name=op.f("ck_node_standings_trust")),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_node_standings_node_id_nodes"),
        sa.PrimaryKeyConstraint("node_id", name="pk_node_standings"),
    )
    op.execute(
        "INSERT INTO node_standings (node_id, pool, trust, trust_at, trust_reason, signed_from, rotate)"
        " SELECT id, '', 'shared', enrolled_at, 'joined before nodes had keys', 0.0, false FROM nodes"
    )
    op.execute("UPDATE tokens SET revoked_at = created_at WHERE kind = 'node' AND revoked_at IS NULL")
