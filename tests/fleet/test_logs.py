"""Logs of attempts: kept once and in order, by stream, up to a limit that shows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from sqlalchemy.orm import Session, sessionmaker

from fleet import jobs, logs, reconcile
from fleet.agents.protocol import NoopSpec
from fleet.blobs import Blobs
from fleet.errors import InvalidSpec, NotFound, StaleWrite
from fleet.models import Job
from fleet.principals import Principal
from tests.fleet.acting import Agent


@pytest.fixture
def running(sessions: sessionmaker[Session], blobs: Blobs, agent: Agent, admin: Principal, now: float) -> Job:
    """A job whose attempt 1 runs under fence 1."""
    with sessions.begin() as writer:
        job = jobs.submit(writer, NoopSpec(), principal=admin, now=now)
    reconcile.tick(sessions, blobs, now)
    return job


def test_logs_are_appended_in_order_and_overlaps_are_skipped(
    session: Session, agent: Agent, running: Job
) -> None:
    def send(offset: int, data: bytes) -> int:
        return logs.append(session, agent.node_id, 1, 1, offset, data)

    assert send(0, b"one ") == 4
    assert send(0, b"one two ") == 8  # our answer was lost
    assert send(20, b"too early") == 8
    assert send(8, b"three") == 13
    assert logs.read(session, 1) == b"one two three"
    assert logs.read(session, 1, offset=4, limit=3) == b"two"
    assert logs.read(session, 1, offset=99) == b""


def test_streams_are_read_together_or_apart(session: Session, agent: Agent, running: Job) -> None:
    assert logs.append(session, agent.node_id, 1, 1, 0, b"out1err1", "o4.e4") == 8
    assert logs.append(session, agent.node_id, 1, 1, 4, b"err1out2note", "e4.o4.s4") == 16
    assert logs.read(session, 1) == b"out1err1out2note"
    assert logs.read(session, 1, stream="stdout") == b"out1out2"
    assert logs.read(session, 1, offset=2, limit=4, stream="stdout") == b"t1ou"
    assert logs.read(session, 1, stream="stderr") == b"err1"
    found = logs.chunks(session, 1, 0, 1 << 20, 100)
    assert [(each.sequence, each.stream, each.stream_offset, each.data) for each in found] == [
        (0, "stdout", 0, b"out1"),
        (1, "stderr", 0, b"err1"),
        (2, "stdout", 4, b"out2"),
        (3, "system", 0, b"note"),
    ]
    assert [each.sequence for each in logs.chunks(session, 1, 1, 5, 100)] == [1]
    assert [each.sequence for each in logs.chunks(session, 1, 1, 100, 2)] == [1, 2]


@pytest.mark.parametrize("runs", ["o4", "o4.e9", "x8", "o8.", ""])
def test_runs_that_are_not_the_datas_are_refused(
    session: Session, agent: Agent, running: Job, runs: str
) -> None:
    with pytest.raises(InvalidSpec):
        logs.append(session, agent.node_id, 1, 1, 0, b"12345678", runs)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    said=some.lists(some.tuples(some.sampled_from("oes"), some.binary(min_size=1, max_size=9)), min_size=1),
    cuts=some.lists(some.tuples(some.integers(0, 40), some.integers(1, 40)), max_size=12),
)
def test_whatever_is_sent_twice_or_too_early_each_stream_arrives_whole(
    session: Session, agent: Agent, running: Job, said: list[Any], cuts: list[tuple[int, int]]
) -> None:
    save = session.begin_nested()
    labelled = [(letter, bytes([byte])) for letter, content in said for byte in content]
    whole = b"".join(byte for _, byte in labelled)

    def send(begin: int, end: int) -> None:
        part = labelled[begin:end]
        if part:
            text = ".".join(f"{letter}1" for letter, _ in part)
            logs.append(session, agent.node_id, 1, 1, begin, b"".join(b for _, b in part), text)

    for begin, size in cuts:
        send(begin, begin + size)
    send(0, len(whole))
    assert logs.read(session, 1) == whole
    for letter, stream in zip("oes", logs.STREAMS, strict=True):
        assert logs.read(session, 1, stream=stream) == b"".join(b for which, b in labelled if which == letter)
    save.rollback()
    session.expire_all()


def test_a_log_beyond_its_limit_is_counted_and_visibly_cut(
    session: Session, agent: Agent, running: Job
) -> None:
    half = b"x" * (logs.MAX_LOG_BYTES // 2 + 1)
    logs.append(session, agent.node_id, 1, 1, 0, half)
    assert logs.append(session, agent.node_id, 1, 1, len(half), half) == 2 * len(half)
    assert logs.append(session, agent.node_id, 1, 1, 2 * len(half), b"more") == 2 * len(half) + 4
    assert logs.append(session, agent.node_id, 1, 1, 2 * len(half) + 4, b"last words", "s10")
    whole = logs.read(session, 1, limit=1 << 30)
    assert whole == b"x" * logs.MAX_LOG_BYTES + logs.TRUNCATED + b"last words"
    assert logs.read(session, 1, limit=1 << 30, stream="stdout") == b"x" * logs.MAX_LOG_BYTES


def test_what_the_agent_notes_is_limited_too(session: Session, agent: Agent, running: Job) -> None:
    much = b"n" * (1 << 20)
    for piece in range(6):
        logs.append(session, agent.node_id, 1, 1, piece << 20, much, f"s{1 << 20}")
    assert len(logs.read(session, 1, limit=1 << 30)) == logs.MAX_LOG_BYTES + logs.MAX_NOTES_BYTES
    logs.append(session, agent.node_id, 1, 1, 6 << 20, b"y")
    assert logs.read(session, 1, limit=1 << 30).endswith(logs.TRUNCATED)


def test_a_log_needs_the_fence_and_the_node_of_its_attempt(
    session: Session, agent: Agent, running: Job
) -> None:
    with pytest.raises(StaleWrite):
        logs.append(session, agent.node_id, 1, 2, 0, b"x")
    with pytest.raises(NotFound):
        logs.append(session, agent.node_id + 1, 1, 1, 0, b"x")
