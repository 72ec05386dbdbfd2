"""The migrated schema is the declared one, to the letter: CHECK constraints and partial indexes included."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Engine, text

from fleet import db
from fleet.models import Table


def schema(engine: Engine) -> dict[str, list[str]]:
    """The clauses of every table and index, in an order of their own."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        return {name: clauses(sql) for name, sql in rows if name != "alembic_version"}


def clauses(sql: str) -> list[str]:
    """The text of a CREATE, cut at its outer commas: two ways to say the same differ in their order only."""
    flat, depth = [], 0
    for symbol in re.sub(r"\s+", " ", sql).replace("( ", "(").replace(" )", ")"):
        depth += (symbol == "(") - (symbol == ")")
        flat.append("\n" if symbol == "," and depth == 1 else symbol)
    head, _, body = "".join(flat).partition("(")
    end, _, inner = body[::-1].partition(")")
    # a table that was rebuilt under another name has its own in quotes
    return [
        head.replace('"', "").strip(),
        end[::-1].strip(),
        *sorted(each.strip() for each in inner[::-1].split("\n")),
    ]


def test_the_migrated_schema_is_the_declared_one(tmp_path: Path) -> None:
    migrated = db.engine_for(f"sqlite:///{tmp_path / 'migrated.db'}")
    created = db.engine_for(f"sqlite:///{tmp_path / 'created.db'}")
    db.upgrade(migrated)
    with created.begin() as connection:
        Table.metadata.create_all(connection)
    assert schema(migrated) == schema(created)


def test_upgrading_twice_changes_nothing(tmp_path: Path) -> None:
    engine = db.engine_for(f"sqlite:///{tmp_path / 'fleet.db'}")
    db.upgrade(engine)
    before = schema(engine)
    db.upgrade(engine)
    assert schema(engine) == before
