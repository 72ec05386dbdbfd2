"""A blob is somebody's: of those that uploaded it, and of those whose jobs made it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0810"
down_revision = "2026_11_26_0600"

_ADDRESS = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
# Of each tenant, where its rows name what it has uploaded and what its jobs have made.
_NAMED = (
    "SELECT tenant, CAST(spec AS TEXT), CAST(artifacts AS TEXT) FROM jobs",
    "SELECT tenant, CAST(parts AS TEXT), address FROM data_sets",
    "SELECT tenant, source_blob, kernel_hash FROM tuned_kernels",
    "SELECT s.tenant, q.source_blob, '' FROM quarantine q JOIN searches s ON s.id = q.search_id",
)


def upgrade() -> None:
    """What a tenant's rows name was its own: who could name it could read it."""
    holders = op.create_table(
        "blob_holders",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["address"], ["blobs.address"], name="fk_blob_holders_address_blobs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("address", "holder", name="pk_blob_holders"),
    )
    bind = op.get_bind()
    known = {row[0]: row[1] for row in bind.execute(sa.text("SELECT address, created_at FROM blobs"))}
    found = sorted(pair for pair in set(_pairs(bind)) if pair[0] in known)
    for start in range(0, len(found), 500):
        rows = [
            {"address": address, "holder": holder, "since": known[address]}
            for address, holder in found[start : start + 500]
        ]
        op.bulk_insert(holders, rows)


def _pairs(bind: sa.Connection) -> Iterator[tuple[str, str]]:
    for query in _NAMED:
        for tenant, *texts in bind.execute(sa.text(query)):
            for text in texts:
                for address in _ADDRESS.findall(text or ""):
                    yield address, f"tenant:{tenant}"
