"""The tables of who asked for what: the audit, and the seals that chain it. The database refuses to change either."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, ForeignKey, event
from sqlalchemy.orm import Mapped, mapped_column

from fleet.schema import Table

APPEND_ONLY = ("audit", "audit_seals")


class Audit(Table):
    """Append-only: which principal asked for what."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    tenant: Mapped[str]
    principal: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    data: Mapped[dict[str, Any]]
    __table_args__ = ({"sqlite_autoincrement": True},)


class AuditSeal(Table):
    """One link of the chain: `seal` is the hex HMAC-SHA256 of the seal before and the audit's row."""

    __tablename__ = "audit_seals"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    audit_id: Mapped[int] = mapped_column(ForeignKey("audit.id"), unique=True)
    seal: Mapped[str]


def refusals(dialect: str) -> list[str]:
    """The statements by which a database refuses to change what is append-only."""
    if dialect == "postgresql":
        return [
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$",
            *(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
                for table in APPEND_ONLY
            ),
        ]
    return [
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for table in APPEND_ONLY
        for verb in ("UPDATE", "DELETE")
    ]


def _refuse(_metadata: object, connection: Connection, **_: object) -> None:
    for statement in refusals(connection.dialect.name):
        connection.exec_driver_sql(statement)


event.listen(Table.metadata, "after_create", _refuse)
