"""A real PostgreSQL server for tests: started once a process, on a socket in a folder of its own, thrown away after."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from fleet import db
from tests import leaks
from tests.parts import need

# What a crash of the machine would lose does not matter here.
SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60")


@contextmanager
def server() -> Iterator[str]:
    """The URL of a new, empty server without its database's name. Skipped, in CI failed, where there is none installed."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    programs = _programs()
    try:
        if os.geteuid() == 0:  # the server refuses to run as root
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        _run(programs / "initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "postgres", "--no-sync")
        options = " ".join(f"-c {each}" for each in ("listen_addresses=", *SETTINGS))
        _run(
            programs / "pg_ctl",
            "-D",
            f"{folder}/data",
            "-w",
            "-l",
            f"{folder}/log",
            "-o",
            f"-k {folder} {options}",
            "start",
        )
        try:
            yield f"postgresql+psycopg://postgres@/{{}}?host={folder}"
        finally:
            _run(programs / "pg_ctl", "-D", f"{folder}/data", "-m", "fast", "-w", "stop")
        # what it had in memory is written by now
        assert leaks.look(folder).leaks == ()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(url: str) -> Iterator[sessionmaker[Session]]:
    """Sessions over a new database of a server, with the newest schema."""
    name = f"tinyfleet_{uuid.uuid4().hex}"
    whole = create_engine(url.format("postgres"), isolation_level="AUTOCOMMIT")
    with whole.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    whole.dispose()
    engine = db.engine_for(url.format(name))
    db.upgrade(engine)
    try:
        yield db.session_factory(engine)
    finally:
        engine.dispose()


def _programs() -> Path:
    """Where Debian keeps what is not on the PATH."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")  # a client's package leaves a folder too
    kept = sorted((path.parent for path in found), key=lambda path: float(path.parent.name))
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install 'psycopg[binary]'")
    return Path(kept[-1]) if kept else Path(need("initdb", install="postgresql")).parent


def _run(program: Path, *arguments: str) -> None:
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        **user,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stdout + done.stderr
