"""A supervisor's judgement: outcomes, capped logs. Its processes are tested with whole agents."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from fleet.agents.logs import CappedLog
from fleet.agents.protocol import Outcome
from fleet.agents.supervisor import Verdict, verdict


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


def test_a_log_is_cut_at_its_limit_once_and_says_so(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", 10)
    for chunk in (b"12345", b"67890", b"gone", b"." * 8188, b"end."):
        log.write(chunk)
    log.close()
    text = (tmp_path / "log").read_text()
    assert text.startswith("1234567890\n[tinyfleet: output cut here: over the limit of 10 bytes]\n")
    assert text.count("cut here") == 1
    assert "gone" not in text
    assert "\n[tinyfleet: 4 bytes of stdout are missing here]\n..." in text
    assert "..end." in text
    assert "4 bytes of output were dropped" in text


def test_a_log_that_just_fits_has_no_mark(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", 10)
    log.write(b"1234567890")
    log.close()
    assert (tmp_path / "log").read_text() == "1234567890"
