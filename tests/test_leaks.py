"""The look for tokens in what the suite wrote finds each way that one gets out."""

from __future__ import annotations

import base64
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from fleet import tenants
from tests import leaks


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone when the suite itself is looked at."""
    folder = tmp_path / "kept"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def token(sessions: sessionmaker[Session], now: float) -> str:
    """A token as the fleet mints them."""
    with sessions.begin() as writer:
        return tenants.mint(writer, name="canary", role="viewer", now=now)[1]


def test_a_file_that_is_one_token_is_a_token_file(token: str, kept: Path) -> None:
    (kept / "token").write_text(token + "\n")
    found = leaks.look(kept)
    assert (found.files, found.size, found.token_files, found.leaks) == (1, len(token) + 1, 1, ())


@pytest.mark.parametrize(
    "around", ["sent {} to x", "x{}y", "\0\1{}\0", '{{"token": "{}"}}', "x" * 5000 + " {}\n" + "y" * 5000]
)
def test_a_token_among_anything_else_is_a_leak(token: str, kept: Path, around: str) -> None:
    (kept / "log").write_text(around.format(token))
    found = leaks.look(kept)
    assert found.leaks == (f"log holds a token, {token[:8]}…",)


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("around", ["{}", "u:{}", "me:{}", "ann:{}:x", "{}?>~\xff", "u:{}\xff\xfe"])
@pytest.mark.parametrize("kind", ["tfu", "tfs", "tfn", "tfj"])
def test_a_token_in_base64_is_a_leak(
    kept: Path, kind: str, around: str, encode: Callable[[bytes], bytes]
) -> None:
    (kind_name,) = (name for name, prefix in tenants._PREFIXES.items() if prefix == kind)
    token = tenants._new_secret(kind_name)
    encoded = encode(around.format(token).encode()).decode()
    for text in (f"Basic {encoded}\n", encoded.rstrip("=")):
        (kept / "log").write_text(text)
        assert leaks.look(kept).leaks == (f"log holds a token, {token[:8]}…",)


def test_a_token_in_a_database_is_a_leak(token: str, kept: Path) -> None:
    with sqlite3.connect(kept / "fleet.db") as database:
        database.execute("CREATE TABLE said (text)")
        database.execute("INSERT INTO said VALUES (?)", (f"Bearer {token}",))
    database.close()
    assert leaks.look(kept).leaks == (f"fleet.db holds a token, {token[:8]}…",)


def test_a_token_that_a_test_prints_is_a_leak(token: str) -> None:
    assert leaks.printed([("Captured log call", "quiet"), ("Captured stdout call", f"got {token}")])
    assert (
        leaks.printed([("Captured stdout call", f"got {token[:-1]}0")]) == ""
    )  # not a real one: its checksum is wrong
    assert leaks.printed([]) == ""
