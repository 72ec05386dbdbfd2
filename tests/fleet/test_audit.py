from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session, sessionmaker

from fleet import audit, db, events
from fleet.audit_rows import APPEND_ONLY, refusals
from fleet.errors import InvalidSpec
from fleet.principals import Principal
from fleet.settings import Settings

KEY = bytes(range(32))


@pytest.fixture
def sealed(sessions: sessionmaker[Session], admin: Principal, now: float) -> audit.Anchor:
    """Ten sealed rows of the audit, and the anchor after them."""
    with sessions.begin() as session:
        for number in range(10):
            events.audit(session, admin, "job.submit", f"job:{number}", {"name": f"ü{number}"}, now - 1000.0)
    with sessions.begin() as session:
        assert audit.seal(session, KEY) == 10
        assert not audit.unsealed(session)
        found = audit.anchor(session, now)
    assert found is not None
    return found


@pytest.fixture
def problems(sessions: sessionmaker[Session], now: float) -> Callable[..., tuple[str, ...]]:
    """A function from anchors to what a look at the chain finds."""

    def look(*held: audit.Anchor) -> tuple[str, ...]:
        with db.reading(sessions) as session:
            return audit.verify(session, KEY, held, now).problems

    return look


@pytest.fixture
def intruder(settings: Settings) -> Callable[[str], None]:
    """A function that does with the file what the application cannot: statements, without triggers or references."""

    def act(statements: str) -> None:
        with sqlite3.connect(settings.data / "fleet.db") as connection:
            connection.executescript(
                "".join(
                    f"DROP TRIGGER IF EXISTS {t}_no_{v};" for t in APPEND_ONLY for v in ("update", "delete")
                )
                + statements
            )
        connection.close()

    return act


def test_an_untouched_chain_is_whole_and_its_anchor_holds(
    sealed: audit.Anchor, problems: Callable[..., tuple[str, ...]]
) -> None:
    assert sealed.number == 10
    assert problems(sealed) == ()


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM {0}",
        "UPDATE {0} SET {1} = {1}",
        "INSERT OR REPLACE INTO {0} SELECT * FROM {0}",
    ],
)
def test_the_database_refuses_to_change_it(
    sealed: audit.Anchor, sessions: sessionmaker[Session], table: str, change: str
) -> None:
    column = {"audit": "action", "audit_seals": "seal"}[table]
    with sessions() as session, pytest.raises(DatabaseError, match="append-only"):
        session.execute(text(change.format(table, column)))


@pytest.mark.parametrize(
    ("tampering", "finding"),
    [
        ("UPDATE audit SET principal = 'user:eve' WHERE id = 4", "row 4 of the audit is not the one"),
        ("UPDATE audit SET data = '{}' WHERE id = 10", "row 10 of the audit is not the one"),
        ("UPDATE audit SET at = at - 1 WHERE id = 1", "row 1 of the audit is not the one"),
        ("UPDATE audit_seals SET seal = 'ab' WHERE number = 3", "row 3 of the audit is not the one"),
        ("DELETE FROM audit WHERE id = 5", "row 5 of the audit was taken out"),
        ("DELETE FROM audit WHERE id = 5; DELETE FROM audit_seals WHERE number = 5", "seal 5 is missing"),
        ("DELETE FROM audit_seals WHERE number = 10", "row 10 of the audit was never sealed"),
        (
            "INSERT INTO audit (at, tenant, principal, action, subject, data)"
            " VALUES (0, 'default', 'user:eve', 'x', 'y', '{}')",
            "row 11 of the audit was never sealed",
        ),
    ],
)
def test_what_was_changed_taken_out_or_put_in_is_found(
    sealed: audit.Anchor,
    intruder: Callable[[str], None],
    problems: Callable[..., tuple[str, ...]],
    tampering: str,
    finding: str,
) -> None:
    intruder(tampering + ";")
    assert [each for each in problems() if finding in each], problems()


def test_an_end_that_was_cut_off_is_found_by_the_anchor_only(
    sealed: audit.Anchor, intruder: Callable[[str], None], problems: Callable[..., tuple[str, ...]]
) -> None:
    intruder("DELETE FROM audit_seals WHERE number > 7; DELETE FROM audit WHERE id > 7;")
    assert problems() == ()
    assert "its end was cut off" in problems(sealed)[0]


def test_a_chain_made_anew_with_the_key_is_found_by_the_anchor(
    sealed: audit.Anchor,
    intruder: Callable[[str], None],
    sessions: sessionmaker[Session],
    problems: Callable[..., tuple[str, ...]],
) -> None:
    intruder("DELETE FROM audit_seals; UPDATE audit SET principal = 'user:eve' WHERE id = 4;")
    with sessions.begin() as session:
        audit.seal(session, KEY)
    assert problems() == ()
    assert "made anew" in problems(sealed)[0]


def test_another_key_verifies_nothing(
    sealed: audit.Anchor, sessions: sessionmaker[Session], now: float
) -> None:
    with db.reading(sessions) as session:
        assert audit.verify(session, bytes(32), (), now).problems


def test_a_row_whose_transaction_came_late_is_sealed_late(
    sealed: audit.Anchor,
    intruder: Callable[[str], None],
    sessions: sessionmaker[Session],
    problems: Callable[..., tuple[str, ...]],
) -> None:
    intruder("DELETE FROM audit_seals; DELETE FROM audit WHERE id = 9;")
    with sessions.begin() as session:
        audit.seal(session, KEY)
    intruder(
        "INSERT INTO audit (id, at, tenant, principal, action, subject, data)"
        " VALUES (9, 0, 'default', 'user:ann', 'x', 'y', '{}');"
    )
    with sessions.begin() as session:
        assert audit.unsealed(session)
        assert audit.seal(session, KEY) == 1
    assert problems() == ()


def test_an_anchor_is_kept_once_an_hour(
    sealed: audit.Anchor, sessions: sessionmaker[Session], tmp_path: Path, now: float
) -> None:
    path = tmp_path / "anchors.jsonl"
    with db.reading(sessions) as session:
        found = [audit.export(session, path, now + s) for s in (0.0, 10.0, 3599.0, 3600.0)]
    assert [each is not None for each in found] == [True, False, False, True]
    assert audit.anchors(path) == [sealed, replace(sealed, at=now + 3600.0)]
    path.write_text("nonsense\n")
    with pytest.raises(InvalidSpec, match=r"anchors\.jsonl"):
        audit.anchors(path)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = audit.key(path)
    assert (len(made), path.stat().st_mode & 0o777, audit.known_key(path)) == (32, 0o600, made)
    path.chmod(0o640)
    with pytest.raises(InvalidSpec, match="chmod 600"):
        audit.key(path)


def test_both_databases_have_a_refusal_for_both_tables() -> None:
    for dialect in ("sqlite", "postgresql"):
        assert all(any(f" ON {table} " in each for each in refusals(dialect)) for table in APPEND_ONLY)
