"""Commands are a kind of job, and every chunk of a log says by which stream it came and which one it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0340"
down_revision = "2026_11_26_0320"
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KINDS = "kind IN ('noop', 'kernel', 'expand', 'measure', 'confirm', 'command')"


def upgrade() -> None:
    """What was kept before came by one pipe: it counts as stdout."""
    with op.batch_alter_table("jobs") as table:
        table.drop_constraint(op.f("ck_jobs_kind"), type_="check")
        table.create_check_constraint(op.f("ck_jobs_kind"), KINDS)
    with op.batch_alter_table("log_chunks") as table:
        table.add_column(sa.Column("sequence", WIDE, nullable=True))
        table.add_column(sa.Column("stream", sa.String(), nullable=True))
        table.add_column(sa.Column("stream_offset", WIDE, nullable=True))
    op.execute(
        "UPDATE log_chunks SET stream = 'stdout', stream_offset = \"offset\", sequence ="
        " (SELECT count(*) FROM log_chunks AS earlier WHERE earlier.attempt_id = log_chunks.attempt_id"
        ' AND earlier."offset" < log_chunks."offset")'
    )
    with op.batch_alter_table("log_chunks") as table:
        for name, kind in (("sequence", WIDE), ("stream", sa.String()), ("stream_offset", WIDE)):
            table.alter_column(name, existing_type=kind, nullable=False)
        table.create_check_constraint(
            op.f("ck_log_chunks_stream"), "stream IN ('stdout', 'stderr', 'system')"
        )
        table.create_unique_constraint("uq_log_chunks_attempt_id_sequence", ["attempt_id", "sequence"])
