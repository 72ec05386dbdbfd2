"""Which blobs something refers to: every address in every column of every table that could hold one.

It looks at text instead of at a list of columns: a table that is made tomorrow and names a blob is seen without anybody
remembering to say so here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import add

from sqlalchemy import JSON, Column, ColumnElement, String, Text, cast, func, or_, select
from sqlalchemy import Table as Sheet
from sqlalchemy.orm import Session

from fleet.models import Table
from fleet.retention import addresses

AT_ONCE = 500
# What happened and who asked for it refer to nothing; the others hold digests that are no blobs, or ciphertext.
NO_REFERENCES = frozenset(
    {
        *(
            "blobs",
            "blob_holders",
            "events",
            "audit",
            "audit_seals",
            "deliveries",
            "idempotency_keys",
            "log_chunks",
        ),
        *("tokens", "nonces", "node_keys", "secrets", "devices", "nodes"),
    }
)
TIMES = frozenset({"at", "state_at", "created_at", "updated_at", "started_at", "finished_at"})


def referenced(session: Session, since: float | None = None) -> frozenset[bytes]:
    """Addresses, as bytes, that rows name; `since`: only rows that were made or changed from then on (epoch seconds),
    and all of those that do not say."""
    return frozenset(bytes.fromhex(each) for each in _found(session, since))


def _found(session: Session, since: float | None) -> Iterator[str]:
    for table in Table.metadata.sorted_tables:
        columns = [column for column in table.c if _may_name(column)]
        if table.name in NO_REFERENCES or not columns:
            continue
        query = select(_together(columns)).execution_options(yield_per=AT_ONCE)
        if since is not None and (changed := _changed(table, since)):
            query = query.where(or_(*changed))
        for text in session.scalars(query):
            yield from addresses(text)


def _may_name(column: Column[object]) -> bool:
    return isinstance(column.type, String | JSON)


def _together(columns: list[Column[object]]) -> ColumnElement[str]:
    """The columns of a row as one text."""
    texts: list[ColumnElement[str]] = [func.coalesce(cast(column, Text), "") + " " for column in columns]
    return reduce(add, texts)


def _changed(table: Sheet, since: float) -> list[ColumnElement[bool]]:
    return [column >= since for column in table.c if column.name in TIMES]
