"""Tuned kernels are confirmed by a second opinion: who found, timed and confirmed each, and whose it is before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0040"
down_revision = "2026_11_26_0020"


def upgrade() -> None:
    """What was tuned before is as yet confirmed by nobody: it is confirmed like anything new."""
    with op.batch_alter_table("tuned_kernels") as table:
        table.add_column(sa.Column("tenant", sa.String(), nullable=True))
        table.add_column(sa.Column("found_by", sa.Integer(), nullable=True))
        table.add_column(sa.Column("confirmed_at", sa.Double(), nullable=True))
        table.add_column(sa.Column("confirmed_by", sa.Integer(), nullable=True))
        table.add_column(sa.Column("confirm_job_id", sa.Integer(), nullable=True))
        table.add_column(sa.Column("confirm_tries", sa.Integer(), nullable=True))
        table.drop_constraint("uq_tuned_kernels_kernel_hash_target_id_threads", type_="unique")
    op.execute(
        "UPDATE tuned_kernels SET confirm_tries = 0,"
        " tenant = (SELECT tenant FROM searches WHERE searches.id = tuned_kernels.search_id)"
    )
    with op.batch_alter_table("tuned_kernels") as table:
        table.alter_column("tenant", existing_type=sa.String(), nullable=False)
        table.alter_column("confirm_tries", existing_type=sa.Integer(), nullable=False)
        table.create_foreign_key("fk_tuned_kernels_tenant_tenants", "tenants", ["tenant"], ["name"])
        table.create_foreign_key("fk_tuned_kernels_found_by_nodes", "nodes", ["found_by"], ["id"])
        table.create_foreign_key("fk_tuned_kernels_confirmed_by_nodes", "nodes", ["confirmed_by"], ["id"])
    key = ["kernel_hash", "target_id", "threads"]
    for name, columns, where in (
        ("uq_tuned_kernels_confirmed", key, "confirmed_at IS NOT NULL"),
        ("uq_tuned_kernels_claimed", [*key, "tenant"], "confirmed_at IS NULL"),
    ):
        op.create_index(
            name,
            "tuned_kernels",
            columns,
            unique=True,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )
