"""Arrays wait for jobs and for arrays, and jobs wait for arrays; of several servers one decides."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0845"
down_revision = "2026_11_26_0840"

WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Nothing waits so yet."""
    with op.batch_alter_table("job_arrays") as table:
        table.add_column(sa.Column("waits_for", sa.JSON(none_as_null=True), nullable=True))
        table.add_column(sa.Column("error", sa.String(), nullable=True))
    op.create_table(
        "leaders",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leaders")),
    )
    op.create_table(
        "array_dependencies",
        sa.Column("job_id", WIDE, nullable=False),
        sa.Column("on_array_id", WIDE, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('after_any', 'after_ok', 'after')", name=op.f("ck_array_dependencies_kind")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_array_dependencies_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["on_array_id"], ["job_arrays.id"], name=op.f("fk_array_dependencies_on_array_id_job_arrays")
        ),
        sa.PrimaryKeyConstraint("job_id", "on_array_id", name=op.f("pk_array_dependencies")),
    )
