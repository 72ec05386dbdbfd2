"""What it costs that a node signs each request and the server verifies it: medians and bests of one process, no network.

verified is all that the server does with a signature but for spending its number: the look for the node's key in a database
(SQLite, in a file) and Ed25519; both stand below by themselves. Every one is right, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.table import Table
from sqlalchemy.orm import Session

from fleet import db, identities, nodes, tenants
from fleet.agents.keys import Key
from fleet.agents.signature import parse
from tests.bench.racing import shown
from tests.signing import joining

TARGET = "/v1/agents/sync"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.identities", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5000)
    rounds = parser.parse_args().rounds
    table = Table("what", "median", "best", title=f"{rounds} requests, µs")
    with joined() as (session, key, moment), shown(table, "one thread"):
        said = parse(key.request("POST", TARGET, b"", moment))
        text = said.text("POST", TARGET)
        rows = {
            "a node signs": lambda: key.request("POST", TARGET, b"", moment),
            "the server verifies": lambda: identities.verify(session, said, "POST", TARGET, moment),
            "of which Ed25519": lambda: right(key, said.signature, text),
        }
        for what, act in rows.items():
            times = timed(act, rounds)
            table.add_row(what, f"{statistics.median(times):.0f}", f"{min(times):.0f}")
    return 0


@contextmanager
def joined() -> Iterator[tuple[Session, Key, float]]:
    """A session of a new fleet, the key of its only node, and the time."""
    with tempfile.TemporaryDirectory() as folder:
        engine = db.engine_for(f"sqlite:///{Path(folder) / 'fleet.db'}")
        db.upgrade(engine)
        key, sessions = Key.made(), db.session_factory(engine)
        with sessions.begin() as session:
            moment = db.now(session)
            _, secret = tenants.mint(session, name="root", role="admin", now=moment)
            by = tenants.authenticate(session, secret, moment)
            join = tenants.mint_join(session, now=moment, by=by)
            nodes.enroll(session, join, joining(join, "tiny1", key), moment)
        with db.reading(sessions) as session:
            yield session, key, moment
        engine.dispose()


def right(key: Key, signature: str, text: bytes) -> None:
    """Ed25519 alone. Raises AssertionError."""
    assert identities.right(key.public, signature, text)


def timed(act: Callable[[], object], rounds: int) -> list[float]:
    """How long each took, in µs."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1e6)
    return times


if __name__ == "__main__":
    sys.exit(main())
