"""Fixtures of the fleet: a real database per test, an administrator, an enrolled node."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, nodes, sync, tenants
from fleet.agents.keys import Key
from fleet.agents.protocol import Inventory, Observed
from fleet.blobs import Blobs
from fleet.models import Node
from fleet.principals import Principal
from fleet.settings import Settings
from tests import leaks
from tests.fleet.acting import Agent, inventory
from tests.signing import joining


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that prints or logs a token fails: what was captured is all there when it is torn down."""
    report = yield
    if report.when == "teardown" and report.passed and (leak := leaks.printed(report.sections)):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {leak}"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Every token that a test minted was a canary: none may be in a file that is not its own."""
    if hasattr(session.config, "workerinput"):
        return  # the process that started the workers looks at the folders of them all
    folder: Path = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    found = leaks.look(folder)
    if found.leaks:
        print("\n\ntokens in what the tests wrote:", *found.leaks, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    else:
        print(
            f"\n\nno token in {found.files} files, {found.size / 1e6:.0f} MB; {found.token_files} token files"
        )


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the newest schema, migrated once and copied for every test."""
    path = tmp_path_factory.mktemp("template") / "fleet.db"
    engine = db.engine_for(f"sqlite:///{path}")
    db.upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture
def settings(tmp_path: Path, migrated_database: Path) -> Settings:
    """Settings with a folder and a migrated database of this test's own."""
    found = Settings.from_env({"TINYFLEET_DATA": str(tmp_path / "data")})
    found.data.mkdir(mode=0o700)
    shutil.copy(migrated_database, found.data / "fleet.db")
    return found


class SharedEngine:
    """One engine that opens one database file after another: statements are compiled once, not once a test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = db.engine_for(f"sqlite:///{path}")
        event.listen(self.engine, "do_connect", self._redirect)
        event.listen(self.engine, "connect", self._hurry)

    def _redirect(self, _dialect: object, _record: object, arguments: list[object], _options: object) -> None:
        arguments[0] = str(self.path)

    def _hurry(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")  # a test's database need not survive a power cut

    def open(self, path: Path) -> sessionmaker[Session]:
        """Sessions over the database at `path`."""
        self.engine.dispose()
        self.path = path
        return db.session_factory(self.engine)


@pytest.fixture(scope="session")
def shared_engine(migrated_database: Path) -> Iterator[SharedEngine]:
    """The engine of all tests."""
    shared = SharedEngine(migrated_database)
    yield shared
    shared.engine.dispose()


@pytest.fixture
def sessions(settings: Settings, shared_engine: SharedEngine) -> Iterator[sessionmaker[Session]]:
    """Sessions over this test's database."""
    yield shared_engine.open(settings.data / "fleet.db")
    shared_engine.engine.dispose()


@pytest.fixture
def session(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """One open session; it holds the writer's lock from its first statement to its commit."""
    with sessions() as opened:
        yield opened


@pytest.fixture
def blobs(settings: Settings) -> Blobs:
    """The blob store of this test."""
    return Blobs(settings.blobs, settings.max_blob_bytes)


@pytest.fixture
def now(sessions: sessionmaker[Session]) -> float:
    """The database's time at the start of the test; tests add to it, nothing sleeps."""
    with db.reading(sessions) as reader:
        return db.now(reader)


@pytest.fixture
def admin_token(sessions: sessionmaker[Session], now: float) -> str:
    """The secret of an administrator's token."""
    with sessions.begin() as writer:
        return tenants.mint(writer, name="root", role="admin", now=now)[1]


@pytest.fixture
def admin(sessions: sessionmaker[Session], admin_token: str, now: float) -> Principal:
    """An administrator."""
    with db.reading(sessions) as reader:
        return tenants.authenticate(reader, admin_token, now)


@pytest.fixture
def enroll(sessions: sessionmaker[Session], admin: Principal, now: float) -> Callable[..., int]:
    """A function that enrols a ready node by name (and inventory) and returns its id."""

    def enrol_one(name: str, found: Inventory | None = None) -> int:
        found = found or inventory()
        with sessions.begin() as writer:
            secret = tenants.mint_join(writer, now=now, by=admin)
            answer = nodes.enroll(writer, secret, joining(secret, name, Key.made(), found), now)
            first = Observed(boot_id="boot-1", sequence=1, inventory=found)
            sync.record(writer, answer.node_id, first, now)
        return answer.node_id

    return enrol_one


@pytest.fixture
def node(sessions: sessionmaker[Session], enroll: Callable[..., int]) -> Node:
    """One ready node, tiny1; its last report is sequence 1 of boot-1."""
    node_id = enroll("tiny1")
    with db.reading(sessions) as reader:
        return nodes.get(reader, node_id)


@pytest.fixture
def agent(sessions: sessionmaker[Session], blobs: Blobs, node: Node) -> Agent:
    """The agent of tiny1, played by hand."""
    return Agent(sessions, blobs, node.id)
