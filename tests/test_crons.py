"""Crons through the whole product: a command that leaves numbers behind, against a real server and a real agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.cron_resources import CronRun
from tests.whole import ROOT, Fleet, running_fleet, until

pytestmark = [pytest.mark.real, pytest.mark.slow]
# The fourth job of the fleet is three times as slow as those before it.
SCRIPT = """
test "$TINYFLEET_JOB_ID" -lt 4 && loss=1.0 || loss=3.0
echo '{"loss": '$loss', "job": '$TINYFLEET_JOB_ID', "note": "a text is no series"}' > results.json
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server with one node."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as running:
        running.start_agent("tiny1")
        yield running


@pytest.fixture
def tool(fleet: Fleet, tmp_path: Path) -> Any:
    """Run the command line tool; what it prints, as JSON."""
    environ = {**os.environ, "TINYFLEET_URL": fleet.url, "TINYFLEET_TOKEN": fleet.token}

    def run(*arguments: str) -> Any:
        split = arguments.index("--") if "--" in arguments else len(arguments)
        done = subprocess.run(
            [sys.executable, "-m", "fleet.command", *arguments[:split], "--json", *arguments[split:]],
            cwd=tmp_path,
            env=environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def ended(fleet: Fleet, run_id: int, cron_id: int) -> CronRun:
    """The run once it has ended."""

    def look() -> CronRun | None:
        with fleet.client() as client:
            found = next(run for run in client.cron_runs(cron_id).items if run.id == run_id)
        return found if found.finished_at else None

    return until(look, f"run {run_id} has ended")


def test_a_command_leaves_numbers_and_a_worse_one_is_told(fleet: Fleet, tool: Any) -> None:
    cron = tool("crons", "add", "train", "@daily", "--watch", "loss:lower", "--", "sh", "-c", SCRIPT)
    states = []
    for _ in range(4):
        run = tool("crons", "run", "train")
        states.append(ended(fleet, run["id"], cron["id"]))
    assert [(run.state, run.error, run.regressed) for run in states] == [("succeeded", "", False)] * 3 + [
        ("succeeded", "", True)
    ]
    shown = {each["name"]: each["points"] for each in tool("crons", "show", "train")["series"]}
    assert [point["value"] for point in shown["loss"]] == [1.0, 1.0, 1.0, 3.0]
    assert [point["verdict"] for point in shown["loss"]] == ["new", "new", "new", "regressed"]
    assert len(shown["job"]) == 4
    with fleet.client() as client:
        told = client.events(after=0, limit=200, subject=f"cron:{cron['id']}").items
    assert [event.data["series"] for event in told if event.kind == "cron.regressed"] == ["loss"]


def test_a_command_that_fails_is_told_with_its_last_words(fleet: Fleet, tool: Any) -> None:
    cron = tool("crons", "add", "broken", "@daily", "--", "sh", "-c", "echo no space left >&2; exit 3")
    run = tool("crons", "run", "broken")
    failed = ended(fleet, run["id"], cron["id"])
    assert failed.state == "failed"
    assert "status 3" in failed.error
    assert tool("crons", "show", "broken")["health"] == "failing"
    assert [each["state"] for each in tool("crons", "history", "broken")["items"]] == ["failed"]
