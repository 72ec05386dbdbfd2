"""The database's history: one line of Alembic revisions."""
