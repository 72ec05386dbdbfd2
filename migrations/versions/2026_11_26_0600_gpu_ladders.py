"""GPUs that were found at fault, cordons that nobody asked for, and the burn-in as a kind of job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0600"
down_revision = "2026_11_26_0530"
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)
KINDS = "kind IN ('noop', 'kernel', 'expand', 'measure', 'confirm', 'command', 'burnin')"
STATES = "state IN ('ok', 'suspect', 'resetting', 'retest', 'quarantined')"


def upgrade() -> None:
    """Two tables; every GPU counts as ok until it is found at fault."""
    with op.batch_alter_table("jobs") as table:
        table.drop_constraint(op.f("ck_jobs_kind"), type_="check")
        table.create_check_constraint(op.f("ck_jobs_kind"), KINDS)
    op.create_table(
        "gpu_ladders",
        sa.Column("id", WIDE, nullable=False, autoincrement=False),
        sa.Column("node_id", WIDE, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("generation", WIDE, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("reason", "detail")),
        sa.Column("falls", JSON, nullable=False),
        sa.Column("reset_at", sa.Double(), nullable=True),
        sa.Column("job_id", WIDE, nullable=True),
        sa.CheckConstraint(STATES, name=op.f("ck_gpu_ladders_state")),
        sa.ForeignKeyConstraint(["id"], ["devices.id"], name="fk_gpu_ladders_id_devices"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_gpu_ladders_node_id_nodes"),
        sa.PrimaryKeyConstraint("id", name="pk_gpu_ladders"),
    )
    op.create_index("ix_gpu_ladders_node_id", "gpu_ladders", ["node_id"])
    op.create_table(
        "node_cordons",
        sa.Column("node_id", WIDE, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("kind", "reason")),
        sa.Column("since", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('flapping', 'gpus', 'clock', 'acceptance')", name=op.f("ck_node_cordons_kind")
        ),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_node_cordons_node_id_nodes"),
        sa.PrimaryKeyConstraint("node_id", "kind", name="pk_node_cordons"),
    )
