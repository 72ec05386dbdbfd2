"""What a supervisor believes of what its task says."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from fleet.agents.reports import LONGEST, Voice, heard, pair


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = pair()
    with ours, theirs:
        yield ours, theirs


Ends = tuple[socket.socket, socket.socket]


def test_progress_and_a_result_arrive_in_order(ends: Ends) -> None:
    ours, theirs = ends
    voice = Voice(theirs)
    voice.progress({"step": 1})
    voice.result({"outcome": "succeeded", "result": {"sum": 3.5}})
    assert heard(ours) == {"progress": {"step": 1}}
    assert heard(ours) == {"result": {"outcome": "succeeded", "result": {"sum": 3.5}}}
    assert heard(ours) is None


def test_progress_that_nobody_takes_in_does_not_hold_the_task_up(ends: Ends) -> None:
    _, theirs = ends
    for number in range(2000):
        Voice(theirs).progress({"number": number})


def test_after_the_end_there_is_nothing(ends: Ends) -> None:
    ours, theirs = ends
    theirs.close()
    assert heard(ours) is None


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff",
        b"{",
        b"[1, 2]",
        b'{"progress": {"x": NaN}}',
        b'{"progress": {"x": 1e999}}',
        b'{"progress": {"x": "\\ud800"}}',
        b'{"progress": {"x": ' + b"9" * 5000 + b"}}",
        b'{"progress": {"x": ' + b"[" * 100 + b"]" * 100 + b"}}",
        b'{"progress": {"x": ' + b"[" * 90_000 + b"]" * 90_000 + b"}}",
        b'{"progress": "a word"}',
    ],
    ids=["bytes", "half", "a list", "NaN", "infinity", "surrogate", "digits", "deep", "deeper", "a word"],
)
def test_what_cannot_be_passed_on_is_not_believed(ends: Ends, packet: bytes) -> None:
    ours, theirs = ends
    theirs.send(packet)
    assert heard(ours) == {}


def test_what_is_too_long_is_not_believed_and_what_follows_is(ends: Ends) -> None:
    ours, theirs = ends
    theirs.send(json.dumps({"progress": {"x": "y" * LONGEST}}).encode())
    assert heard(ours) == {}
    theirs.send(b'{"progress": {}}')
    assert heard(ours) == {"progress": {}}
