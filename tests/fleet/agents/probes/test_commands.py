"""Tools that take too long, start others, or are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.agents.probes.commands import Failed, run
from tests.fleet.agents.conftest import gone, until


def test_a_tool_says_its_status_and_output() -> None:
    said = run(("sh", "-c", "echo out; echo err >&2; exit 5"), 10.0)
    assert (said.status, said.output, said.errors) == (5, b"out\n", "err\n")


def test_a_tool_that_is_not_there_is_named() -> None:
    with pytest.raises(Failed, match="no-such-tool is not installed"):
        run(("no-such-tool",), 1.0)


def test_a_tool_that_hangs_ends_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(Failed, match=r"sh did not answer within 0\.3 s"):
        run(("sh", "-c", f"sleep 100 & echo $! $$ > {pids}; wait"), 0.3)
    until(lambda: all(gone(int(pid)) for pid in pids.read_text().split()))


def test_a_tool_gets_none_of_the_agents_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYFLEET_JOIN_TOKEN", "canary")
    assert b"canary" not in run(("env",), 10.0).output
