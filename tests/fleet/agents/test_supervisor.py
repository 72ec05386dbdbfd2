"""A supervisor's judgement: outcomes, kept artifacts, capped logs. Its processes are tested with whole agents."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fleet.agents.attempts import Limits
from fleet.agents.protocol import Outcome
from fleet.agents.supervisor import CappedLog, Verdict, artifacts, verdict


@pytest.mark.parametrize(
    ("status", "result", "expected"),
    [
        (0, {"outcome": "succeeded"}, Verdict(Outcome.SUCCEEDED)),
        (0, {"outcome": "invalid", "error": "why"}, Verdict(Outcome.INVALID, "why")),
        (int(signal.SIGBUS), {"outcome": "succeeded"}, Verdict(Outcome.FAILED, "killed by SIGBUS")),
        (0, None, Verdict(Outcome.FAILED, "ended with exit status 0 and no result; see the end of its log")),
        (
            3 << 8,
            None,
            Verdict(Outcome.FAILED, "ended with exit status 3 and no result; see the end of its log"),
        ),
    ],
)
def test_the_outcome_follows_from_the_end_of_the_process_and_its_result(
    status: int, result: dict[str, str] | None, expected: Verdict
) -> None:
    assert verdict(status, result) == expected


def test_a_signal_without_a_name_is_no_surprise() -> None:
    assert "signal 40" in verdict(40, None).error


def test_a_kill_from_outside_is_said_to_be_one() -> None:
    assert "want of memory" in verdict(int(signal.SIGKILL), None).error


def test_artifacts_are_capped_by_count_and_bytes_and_only_plain_files_are_kept(tmp_path: Path) -> None:
    for name, size in (("a", 10), ("b", 10), ("c", 100), ("d", 1), ("e", 1)):
        (tmp_path / name).write_bytes(bytes(size))
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "sp ace").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / ("x" * 64)).touch()
    kept, dropped = artifacts(tmp_path, Limits(artifact_bytes=50, artifact_count=3))
    assert kept == ["a", "b", "d"]
    reasons = "\n".join(dropped)
    assert "'c' is not kept: only 30 bytes are left" in reasons
    assert "'e' is not kept: there are too many" in reasons
    assert "'fifo' is not kept: not a plain file" in reasons
    assert len(dropped) == 6


def test_no_artifacts_folder_is_no_artifacts(tmp_path: Path) -> None:
    assert artifacts(tmp_path / "removed", Limits()) == ([], [])


def test_a_log_is_cut_at_its_limit_once_and_says_so(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", 10)
    for chunk in (b"12345", b"67890", b"lost", b"lost"):
        log.write(chunk)
    log.close()
    text = (tmp_path / "log").read_text()
    assert text.startswith("1234567890\n[tinyfleet: output cut here: over the limit of 10 bytes]\n")
    assert text.count("cut here") == 1
    assert "8 bytes of output were dropped" in text
    assert "lost" not in text


def test_a_log_that_just_fits_has_no_mark(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", 10)
    log.write(b"1234567890")
    log.close()
    assert (tmp_path / "log").read_text() == "1234567890"
