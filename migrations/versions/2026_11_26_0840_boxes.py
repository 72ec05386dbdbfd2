"""Models of boxes, nodes held against them, and the stock."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0840"
down_revision = "2026_11_26_0830"
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Three tables; nothing was there before."""
    op.create_table(
        "box_models",
        sa.Column("id", WIDE, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("limits", JSON, nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("updated_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_box_models"),
        sa.UniqueConstraint("name", name="uq_box_models_name"),
    )
    op.create_table(
        "acceptances",
        sa.Column("id", WIDE, nullable=False, autoincrement=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("model", "state")),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("generation", WIDE, nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        *(sa.Column(name, JSON, nullable=False) for name in ("jobs", "lines")),
        sa.CheckConstraint(
            "state IN ('measuring', 'accepted', 'refused')", name=op.f("ck_acceptances_state")
        ),
        sa.ForeignKeyConstraint(["id"], ["nodes.id"], name="fk_acceptances_id_nodes"),
        sa.PrimaryKeyConstraint("id", name="pk_acceptances"),
    )
    op.create_table(
        "boxes",
        sa.Column("id", WIDE, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("serial", "model", "state")),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("generation", WIDE, nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("added_at", sa.Double(), nullable=False),
        sa.Column("added_by", sa.String(), nullable=False),
        sa.CheckConstraint(
            "state IN ('ordered', 'stored', 'installed', 'repair', 'scrapped')", name=op.f("ck_boxes_state")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_boxes"),
        sa.UniqueConstraint("serial", name="uq_boxes_serial"),
    )
    op.create_index("ix_boxes_model", "boxes", ["model"])
    where = sa.text("node IS NOT NULL AND state != 'scrapped'")
    op.create_index(
        "uq_boxes_node", "boxes", ["node"], unique=True, sqlite_where=where, postgresql_where=where
    )
