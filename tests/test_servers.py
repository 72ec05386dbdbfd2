"""Two servers on one PostgreSQL: one decides, and when it is killed the other does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgresql import database, server
from tests.whole import TIMINGS, Fleet, Process, start, until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]
LONG_S = 90.0  # a deadline for a machine whose cores are all busy


@pytest.fixture
def url() -> Iterator[str]:
    """A database of this test's own."""
    with server() as template, database(template) as sessions:
        yield sessions.kw["bind"].url.render_as_string(hide_password=False)


def serve(folder: Path, url: str) -> tuple[Process, str]:
    """A server on that database with a data folder of its own, and its address."""
    folder.mkdir()
    ready = folder / "ready.json"
    options = [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--data",
        str(folder / "data"),
        "--ready-file",
        str(ready),
    ]
    environ = {**TIMINGS, "TINYFLEET_DATABASE_URL": url}
    process = start(["api", *options], folder / "server.log", environ)
    until(ready.exists, f"a server listens: {(folder / 'server.log')}", LONG_S)
    return process, str(json.loads(ready.read_text())["url"])


def test_when_the_server_that_decides_is_killed_the_other_does(url: str, tmp_path: Path) -> None:
    first, _ = serve(tmp_path / "first", url)
    token = (tmp_path / "first" / "data" / "admin-token").read_text()
    fleet = Fleet(tmp_path / "second")
    try:
        fleet.server, fleet.url = serve(fleet.folder, url)
        (fleet.folder / "data" / "admin-token").write_text(token)
        fleet.start_agent("tiny1")  # it knows the second one only, and the first one decides
        with fleet.client() as client:
            before = client.submit_job({"kind": "noop"})
            assert fleet.wait_job(before.id, "succeeded", within_s=LONG_S).ran_on == "tiny1"
            first.kill()
            after = client.submit_job({"kind": "noop"})
            assert fleet.wait_job(after.id, "succeeded", within_s=LONG_S).attempts == 1
    finally:
        first.stop()
        fleet.stop()
