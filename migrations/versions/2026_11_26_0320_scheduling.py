"""Jobs ask for more than a device: GPUs, gangs, limits; and there are arrays, dependencies, quotas, windows, usage."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0320"
down_revision = "2026_11_26_0310"

WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STATES = (
    *("blocked", "queued", "leased", "running", "preempting", "stopping"),
    *("cancelling", "succeeded", "failed", "cancelled"),
)


def upgrade() -> None:
    """What there was asks for one share of a cpu on one node, as before."""
    _tables()
    _jobs()
    _attempts_and_leases()


def _jobs() -> None:
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("requires", sa.JSON(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("ranks", WIDE, nullable=False, server_default="1"))
        table.add_column(sa.Column("preemptible", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("preempted", WIDE, nullable=False, server_default="0"))
        table.add_column(sa.Column("queue_timeout_s", sa.Double(), nullable=True))
        table.add_column(sa.Column("not_before", sa.Double(), nullable=False, server_default="0"))
        table.add_column(sa.Column("retry_on", sa.JSON(), nullable=True))
        table.add_column(sa.Column("settling", sa.JSON(), nullable=True))
        table.add_column(sa.Column("array_id", WIDE, nullable=True))
        table.add_column(sa.Column("array_index", WIDE, nullable=True))
        table.add_column(sa.Column("clone_of", WIDE, nullable=True))
        table.add_column(sa.Column("expected_at", sa.Double(), nullable=True))
        table.create_foreign_key("fk_jobs_array_id_job_arrays", "job_arrays", ["array_id"], ["id"])
        table.drop_constraint(op.f("ck_jobs_state"), type_="check")
        listed = ", ".join(repr(state) for state in STATES)
        table.create_check_constraint(op.f("ck_jobs_state"), f"state IN ({listed})")
        table.drop_index("ix_jobs_queued")
    _plain("jobs", "requires", "ranks", "preemptible", "preempted", "not_before")
    _index("ix_jobs_queued", "jobs", ["tenant", "priority", "requirement", "id"], "state = 'queued'")
    _index("ix_jobs_array", "jobs", ["array_id", "state"], "array_id IS NOT NULL")


def _attempts_and_leases() -> None:
    with op.batch_alter_table("attempts") as table:
        table.add_column(sa.Column("rank", WIDE, nullable=False, server_default="0"))
        table.drop_constraint("uq_attempts_job_id_number", type_="unique")
        table.create_unique_constraint("uq_attempts_job_id_number_rank", ["job_id", "number", "rank"])
        table.drop_index("uq_attempts_live")
    _plain("attempts", "rank")
    _index("uq_attempts_live", "attempts", ["job_id", "rank"], "state != 'ended'", unique=True)
    with op.batch_alter_table("leases", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.add_column(sa.Column("slots", WIDE, nullable=False, server_default="1"))
    _plain("leases", "slots", sqlite_autoincrement=True)
    with op.batch_alter_table("devices") as table:
        table.add_column(sa.Column("vendor", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("driver", sa.String(), nullable=False, server_default=""))
    _plain("devices", "vendor", "driver")


def _plain(table: str, *columns: str, **kwargs: Any) -> None:
    """The defaults were for the rows that there were; from now on the program gives every value."""
    with op.batch_alter_table(table, table_kwargs=kwargs) as batch:
        for column in columns:
            batch.alter_column(column, server_default=None)


def _index(name: str, table: str, columns: list[str], where: str, unique: bool = False) -> None:
    text = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=text, postgresql_where=text)


def _tables() -> None:
    op.create_table(
        "node_labels",
        sa.Column("node_id", WIDE, sa.ForeignKey("nodes.id", name="fk_node_labels_node_id_nodes")),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", name="pk_node_labels"),
    )
    op.create_table(
        "lease_gpus",
        sa.Column("id", WIDE, nullable=False),
        sa.Column("lease_id", WIDE, nullable=False),
        sa.Column("device_id", WIDE, nullable=False),
        sa.Column("released_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_lease_gpus"),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name="fk_lease_gpus_lease_id_leases"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_lease_gpus_device_id_devices"),
    )
    op.create_index("ix_lease_gpus_lease_id", "lease_gpus", ["lease_id"])
    _index("uq_lease_gpus_held", "lease_gpus", ["device_id"], "released_at IS NULL", unique=True)
    _tenants()
    _arrays()


def _tenants() -> None:
    op.create_table(
        "quotas",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("max_gpus", WIDE, nullable=True),
        sa.Column("gpu_seconds", sa.Double(), nullable=True),
        sa.Column("period_s", sa.Double(), nullable=False),
        sa.Column("max_queued", WIDE, nullable=True),
        sa.PrimaryKeyConstraint("tenant", name="pk_quotas"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_quotas_tenant_tenants"),
    )
    op.create_table(
        "uses",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("gpu_s", sa.Double(), nullable=False),
        sa.Column("slot_s", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_uses"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_uses_tenant_tenants"),
    )
    op.create_table(
        "usage_days",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("node_id", WIDE, nullable=False),
        sa.Column("day", WIDE, nullable=False),
        sa.Column("gpu_leased_s", sa.Double(), nullable=False),
        sa.Column("gpu_busy_s", sa.Double(), nullable=False),
        sa.Column("slot_s", sa.Double(), nullable=False),
        sa.Column("attempts", WIDE, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "node_id", "day", name="pk_usage_days"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_usage_days_tenant_tenants"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_usage_days_node_id_nodes"),
    )
    op.create_table(
        "node_windows",
        sa.Column("id", WIDE, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("node_ids", sa.JSON(), nullable=False),
        sa.Column("starts_at", sa.Double(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("cancelled_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_node_windows"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_node_windows_tenant_tenants"),
        sa.CheckConstraint("kind IN ('reservation', 'maintenance')", name=op.f("ck_node_windows_kind")),
        sa.CheckConstraint(
            "(kind = 'reservation') = (tenant IS NOT NULL)",
            name=op.f("ck_node_windows_reserved_for_a_tenant"),
        ),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_node_windows_ends_after_its_start")),
    )
    op.create_index("ix_node_windows_ends_at", "node_windows", ["ends_at"])


def _arrays() -> None:
    op.create_table(
        "job_arrays",
        sa.Column("id", WIDE, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("template", sa.JSON(), nullable=False),
        sa.Column("size", WIDE, nullable=False),
        sa.Column("made", WIDE, nullable=False),
        sa.Column("parallel", WIDE, nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("cancelled_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_job_arrays"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_job_arrays_tenant_tenants"),
        sa.CheckConstraint("made >= 0 AND made <= size", name=op.f("ck_job_arrays_made_within_size")),
    )
    _index("ix_job_arrays_unmade", "job_arrays", ["id"], "made < size")
    op.create_table(
        "dependencies",
        sa.Column("job_id", WIDE, nullable=False),
        sa.Column("on_job_id", WIDE, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "on_job_id", name="pk_dependencies"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_dependencies_job_id_jobs"),
        sa.ForeignKeyConstraint(["on_job_id"], ["jobs.id"], name="fk_dependencies_on_job_id_jobs"),
        sa.CheckConstraint("kind IN ('after_any', 'after_ok', 'after')", name=op.f("ck_dependencies_kind")),
    )
    op.create_index("ix_dependencies_on_job_id", "dependencies", ["on_job_id"])
