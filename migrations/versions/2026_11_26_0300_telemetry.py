"""What nodes say about themselves: where they stand, their latest expositions, their last hour, and what is wrong."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fleet.telemetry_rows import unlogged

revision = "2026_11_26_0300"
down_revision = "2026_11_26_0140"
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """New tables only."""
    op.create_table(
        "racks",
        sa.Column("id", WIDE, nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("power_budget_watts", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_racks"),
        sa.UniqueConstraint("site", "name", name="uq_racks_site_name"),
    )
    op.create_table(
        "places",
        sa.Column("node_id", WIDE, nullable=False),
        sa.Column("rack_id", WIDE, nullable=False),
        sa.Column("nameplate_watts", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_places_node_id_nodes"),
        sa.ForeignKeyConstraint(["rack_id"], ["racks.id"], name="fk_places_rack_id_racks"),
        sa.PrimaryKeyConstraint("node_id", name="pk_places"),
    )
    op.create_index("ix_places_rack_id", "places", ["rack_id"])
    op.create_table(
        "findings",
        sa.Column("node_id", WIDE, nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_findings_node_id_nodes"),
        sa.PrimaryKeyConstraint("node_id", "device", name="pk_findings"),
    )
    op.create_table(
        "expositions",
        sa.Column("node_id", WIDE, nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("signed_at", sa.Double(), nullable=False),
        sa.Column("reading", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_expositions_node_id_nodes"),
        sa.PrimaryKeyConstraint("node_id", name="pk_expositions"),
    )
    op.create_table(
        "telemetry_points",
        sa.Column("node_id", WIDE, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("reading", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_telemetry_points_node_id_nodes"),
        sa.PrimaryKeyConstraint("node_id", "at", name="pk_telemetry_points"),
    )
    for statement in unlogged(op.get_bind().dialect.name):
        op.get_bind().exec_driver_sql(statement)
