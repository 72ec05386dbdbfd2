"""What attempts drew."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0505"
down_revision = "2026_11_26_0450"
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """A new table only."""
    op.create_table(
        "attempt_energies",
        sa.Column("attempt_id", WIDE, nullable=False),
        sa.Column("job_id", WIDE, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("node_id", WIDE, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("joules", sa.Double(), nullable=False),
        sa.Column("throttled_s", sa.Double(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.CheckConstraint("method IN ('counter', 'integrated')", name=op.f("ck_attempt_energies_method")),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.id"], name="fk_attempt_energies_attempt_id_attempts"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempt_energies_job_id_jobs"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_attempt_energies_tenant_tenants"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_attempt_energies_node_id_nodes"),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_attempt_energies"),
    )
    op.create_index("ix_attempt_energies_job_id", "attempt_energies", ["job_id"])
    op.create_index("ix_attempt_energies_at", "attempt_energies", ["at"])
