"""Run the migrations on the connection that fleet.db.upgrade passes, in one transaction."""

from __future__ import annotations

from alembic import context

from fleet.models import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
