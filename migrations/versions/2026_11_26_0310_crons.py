"""Crons: jobs that start by the clock, their runs, and the numbers that runs declare."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0310"
down_revision = "2026_11_26_0300"
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Three tables; nothing was there before."""
    op.create_table(
        "crons",
        sa.Column("id", WIDE, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("name", "schedule", "timezone")),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("overlap", "catch_up")),
        sa.Column("most_caught_up", WIDE, nullable=False),
        *(sa.Column(name, JSON, nullable=False) for name in ("job", "watch", "accepted")),
        sa.Column("generation", WIDE, nullable=False),
        sa.Column("decided_at", sa.Double(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in ("next_at", "paused_at")),
        sa.Column("paused_by", sa.String(), nullable=True),
        sa.Column("removed_at", sa.Double(), nullable=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("health", "health_reason")),
        sa.Column("failures", WIDE, nullable=False),
        *(
            sa.Column(name, sa.Double(), nullable=True)
            for name in ("behind_since", "expected_by", "last_success_at")
        ),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("overlap IN ('skip', 'queue', 'replace')", name=op.f("ck_crons_overlap")),
        sa.CheckConstraint("catch_up IN ('none', 'last', 'all')", name=op.f("ck_crons_catch_up")),
        sa.CheckConstraint("health IN ('ok', 'failing', 'stalled')", name=op.f("ck_crons_health")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_crons_tenant_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_crons"),
    )
    _index("uq_crons_live_name", "crons", ["tenant", "name"], "removed_at IS NULL", unique=True)
    _index("ix_crons_next", "crons", ["next_at"], "next_at IS NOT NULL")
    _index("ix_crons_behind", "crons", ["id"], "behind_since IS NOT NULL")
    _runs()
    op.create_table(
        "cron_points",
        sa.Column("cron_id", WIDE, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("run_id", WIDE, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("good", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in ("baseline", "mad", "limit")),
        sa.ForeignKeyConstraint(["cron_id"], ["crons.id"], name="fk_cron_points_cron_id_crons"),
        sa.ForeignKeyConstraint(["run_id"], ["cron_runs.id"], name="fk_cron_points_run_id_cron_runs"),
        sa.PrimaryKeyConstraint("cron_id", "name", "run_id", name="pk_cron_points"),
    )
    op.create_index("ix_cron_points_run_id", "cron_points", ["run_id"])


def _runs() -> None:
    states = "'waiting', 'running', 'succeeded', 'failed', 'cancelled', 'skipped', 'missed'"
    op.create_table(
        "cron_runs",
        sa.Column("id", WIDE, nullable=False),
        sa.Column("cron_id", WIDE, nullable=False),
        sa.Column("scheduled_at", sa.Double(), nullable=False),
        sa.Column("by", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("generation", WIDE, nullable=False),
        sa.Column("job_id", WIDE, nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("regressed", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in ("started_at", "finished_at")),
        sa.CheckConstraint(f"state IN ({states})", name=op.f("ck_cron_runs_state")),
        sa.ForeignKeyConstraint(["cron_id"], ["crons.id"], name="fk_cron_runs_cron_id_crons"),
        sa.PrimaryKeyConstraint("id", name="pk_cron_runs"),
        sa.UniqueConstraint("cron_id", "scheduled_at", name="uq_cron_runs_cron_id_scheduled_at"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_cron_runs_page", "cron_runs", ["cron_id", "id"])
    _index("ix_cron_runs_live", "cron_runs", ["cron_id"], "state IN ('waiting', 'running')")


def _index(name: str, table: str, columns: list[str], where: str, unique: bool = False) -> None:
    op.create_index(
        name,
        table,
        columns,
        unique=unique,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
