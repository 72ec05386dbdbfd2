"""The first schema: nodes, jobs, attempts, leases, searches, tuned kernels, tokens, events and audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table, those that are referred to first."""
    _nodes()
    _searches()
    _jobs()
    _records()


def _nodes() -> None:
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_tenants"),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("cordoned", sa.Boolean(), nullable=False),
        sa.Column("enrolled_at", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=True),
        sa.Column("contact", sa.String(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("past_boots", sa.JSON(), nullable=False),
        sa.Column("desired_generation", sa.Integer(), nullable=False),
        sa.Column("applied_generation", sa.Integer(), nullable=False),
        sa.Column("settled", sa.JSON(), nullable=False),
        sa.Column("hostname", sa.String(), nullable=False),
        sa.Column("agent_version", sa.String(), nullable=False),
        sa.Column("os", sa.String(), nullable=False),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "state IN ('enrolled', 'ready', 'draining', 'drained', 'retired')", name=op.f("ck_nodes_state")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
    )
    op.create_index(
        "uq_nodes_live_name",
        "nodes",
        ["name"],
        unique=True,
        sqlite_where=sa.text("state != 'retired'"),
        postgresql_where=sa.text("state != 'retired'"),
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("arch", sa.String(), nullable=False),
        sa.Column("target_id", sa.String(), nullable=True),
        sa.Column("target", sa.JSON(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.Integer(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("present", sa.Boolean(), nullable=False),
        sa.CheckConstraint("kind IN ('cpu', 'gpu')", name=op.f("ck_devices_kind")),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_devices_node_id_nodes"),
        sa.PrimaryKeyConstraint("id", name="pk_devices"),
        sa.UniqueConstraint("node_id", "name", name="uq_devices_node_id_name"),
    )
    op.create_index("ix_devices_target_id", "devices", ["target_id"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'node') = (node_id IS NOT NULL)", name=op.f("ck_tokens_node_token_has_node")
        ),
        sa.CheckConstraint("kind IN ('user', 'service', 'node', 'join')", name=op.f("ck_tokens_kind")),
        sa.CheckConstraint(
            "role IN ('admin', 'user', 'viewer', 'node', 'join')", name=op.f("ck_tokens_role")
        ),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_tokens_node_id_nodes"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_tokens_tenant_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("digest", name="uq_tokens_digest"),
    )


def _searches() -> None:
    op.create_table(
        "kernels",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_kernels"),
    )
    op.create_table(
        "kernel_aliases",
        sa.Column("ref_key", sa.String(), nullable=False),
        sa.Column("kernel_hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("ref_key", name="pk_kernel_aliases"),
    )
    op.create_index("ix_kernel_aliases_kernel_hash", "kernel_aliases", ["kernel_hash"])
    op.create_table(
        "searches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("kernel", sa.JSON(), nullable=False),
        sa.Column("ref_key", sa.String(), nullable=False),
        sa.Column("kernel_hash", sa.String(), nullable=True),
        sa.Column("join_key", sa.String(), nullable=False),
        sa.Column("arch", sa.String(), nullable=True),
        sa.Column("target_id", sa.String(), nullable=True),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("budget_s", sa.Double(), nullable=False),
        sa.Column("per_round", sa.Integer(), nullable=False),
        sa.Column("max_rounds", sa.Integer(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("refresh", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("flops", sa.Double(), nullable=True),
        sa.Column("bytes", sa.Double(), nullable=True),
        sa.Column("best_s", sa.Double(), nullable=True),
        sa.Column("best_hash", sa.String(), nullable=True),
        sa.Column("confirmed", sa.JSON(), nullable=False),
        sa.Column("tuned_kernel_id", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(), nullable=False),
        sa.CheckConstraint("phase IN ('expand', 'measure', 'confirm')", name=op.f("ck_searches_phase")),
        sa.CheckConstraint("source IN ('search', 'cache')", name=op.f("ck_searches_source")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_searches_state")
        ),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_searches_tenant_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_searches"),
    )
    op.create_index(
        "uq_searches_in_flight",
        "searches",
        ["join_key"],
        unique=True,
        sqlite_where=sa.text("state IN ('queued', 'running')"),
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_table(
        "rounds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("generated", sa.Integer(), nullable=False),
        sa.Column("illegal", sa.Integer(), nullable=False),
        sa.Column("duplicate", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("best_s", sa.Double(), nullable=True),
        sa.Column("candidates", sa.JSON(), nullable=False),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("top", sa.JSON(), nullable=False),
        sa.Column("hashes", sa.JSON(), nullable=False),
        sa.Column("artifacts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_rounds_search_id_searches"),
        sa.PrimaryKeyConstraint("id", name="pk_rounds"),
        sa.UniqueConstraint("search_id", "number", name="uq_rounds_search_id_number"),
    )
    op.create_table(
        "tuned_kernels",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kernel_hash", sa.String(), nullable=False),
        sa.Column("target_id", sa.String(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("kernel", sa.JSON(), nullable=False),
        sa.Column("arch", sa.String(), nullable=False),
        sa.Column("schedule", sa.JSON(), nullable=False),
        sa.Column("schedule_hash", sa.String(), nullable=False),
        sa.Column("time_s", sa.Double(), nullable=False),
        sa.Column("flops", sa.Double(), nullable=False),
        sa.Column("bytes", sa.Double(), nullable=False),
        sa.Column("max_error", sa.Double(), nullable=True),
        sa.Column("tolerance", sa.Double(), nullable=True),
        sa.Column("source_blob", sa.String(), nullable=True),
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_tuned_kernels_node_id_nodes"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_tuned_kernels_search_id_searches"),
        sa.PrimaryKeyConstraint("id", name="pk_tuned_kernels"),
        sa.UniqueConstraint(
            "kernel_hash", "target_id", "threads", name="uq_tuned_kernels_kernel_hash_target_id_threads"
        ),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kernel_hash", sa.String(), nullable=False),
        sa.Column("target_id", sa.String(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("schedule", sa.JSON(), nullable=False),
        sa.Column("schedule_hash", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("source_blob", sa.String(), nullable=True),
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('ok', 'slow', 'illegal', 'compile_failed', 'wrong', 'out_of_bounds', 'crashed', 'hung', 'skipped')",
            name=op.f("ck_quarantine_outcome"),
        ),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_quarantine_node_id_nodes"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_quarantine_search_id_searches"),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
        sa.UniqueConstraint(
            "kernel_hash",
            "target_id",
            "threads",
            "schedule_hash",
            name="uq_quarantine_kernel_hash_target_id_threads_schedule_hash",
        ),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("requirement", sa.String(), nullable=False),
        sa.Column("arch", sa.String(), nullable=True),
        sa.Column("target_id", sa.String(), nullable=True),
        sa.Column("node_id", sa.Integer(), nullable=True),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("timeout_s", sa.Double(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("search_id", sa.Integer(), nullable=True),
        sa.Column("round", sa.Integer(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("artifacts", sa.JSON(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('noop', 'kernel', 'expand', 'measure', 'confirm')", name=op.f("ck_jobs_kind")
        ),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'invalid', 'cancelled', 'timed_out', 'infra_failed', 'node_lost', 'device_wedged')",
            name=op.f("ck_jobs_outcome"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'leased', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_jobs_state"),
        ),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_jobs_node_id_nodes"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_jobs_search_id_searches"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_jobs_tenant_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index(
        "ix_jobs_queued",
        "jobs",
        ["priority", "requirement", "id"],
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_jobs_search",
        "jobs",
        ["search_id", "round", "kind"],
        sqlite_where=sa.text("search_id IS NOT NULL"),
        postgresql_where=sa.text("search_id IS NOT NULL"),
    )
    op.create_index("ix_jobs_state", "jobs", ["state", "id"])
    op.create_table(
        "attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("since_generation", sa.Integer(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("blobs", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("elapsed_s", sa.Double(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("progress", sa.JSON(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("artifacts", sa.JSON(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("log_bytes", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(state = 'ended') = (outcome IS NOT NULL)", name=op.f("ck_attempts_outcome_when_ended")
        ),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'invalid', 'cancelled', 'timed_out', 'infra_failed', 'node_lost', 'device_wedged')",
            name=op.f("ck_attempts_outcome"),
        ),
        sa.CheckConstraint("state IN ('leased', 'running', 'ended')", name=op.f("ck_attempts_state")),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_attempts_device_id_devices"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id_jobs"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_attempts_node_id_nodes"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.UniqueConstraint("job_id", "number", name="uq_attempts_job_id_number"),
    )
    op.create_index(
        "ix_attempts_live_node",
        "attempts",
        ["node_id"],
        sqlite_where=sa.text("state != 'ended'"),
        postgresql_where=sa.text("state != 'ended'"),
    )
    op.create_index(
        "uq_attempts_live",
        "attempts",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text("state != 'ended'"),
        postgresql_where=sa.text("state != 'ended'"),
    )
    op.create_table(
        "leases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("attempt_id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("exclusive", sa.Boolean(), nullable=False),
        sa.Column("granted_at", sa.Double(), nullable=False),
        sa.Column("released_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_leases_attempt_id_attempts"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_leases_device_id_devices"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_leases_node_id_nodes"),
        sa.PrimaryKeyConstraint("id", name="pk_leases"),
        sa.UniqueConstraint("attempt_id", name="uq_leases_attempt_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_leases_held",
        "leases",
        ["node_id"],
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_index(
        "uq_leases_exclusive",
        "leases",
        ["device_id"],
        unique=True,
        sqlite_where=sa.text("exclusive AND released_at IS NULL"),
        postgresql_where=sa.text("exclusive AND released_at IS NULL"),
    )
    op.create_table(
        "log_chunks",
        sa.Column("attempt_id", sa.Integer(), nullable=False),
        sa.Column("offset", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_log_chunks_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("attempt_id", "offset", name="pk_log_chunks"),
    )
    # ### end Alembic commands ###


def _records() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_subject", "events", ["subject"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("principal", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("principal", sa.String(), nullable=False),
        sa.Column("noun", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("body_hash", sa.String(), nullable=False),
        sa.Column("row_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "noun", "key", name="pk_idempotency_keys"),
    )
    op.create_table(
        "blobs",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("address", name="pk_blobs"),
    )
