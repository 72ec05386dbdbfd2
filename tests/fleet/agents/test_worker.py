"""What is said when, and which answers count."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.agents.client import ControlPlane
from fleet.agents.journal import Journal, lease_left
from fleet.agents.keys import Signer
from fleet.agents.protocol import AttemptReport, DeviceReport, Inventory, Outcome
from fleet.agents.worker import Link
from tests.fleet.agents.far_end import FarEnd
from tests.signing import Pen

INVENTORY = Inventory(
    hostname="h",
    agent_version="0",
    cores=1,
    memory_bytes=1,
    devices=[DeviceReport(name="cpu", kind="cpu", model="m", arch="a")],
)


@pytest.fixture
def link(far_end: FarEnd, tmp_path: Path) -> Iterator[Link]:
    journal = Journal(tmp_path)
    with ControlPlane(far_end.url, far_end.knows(Pen())) as control:
        yield Link(control, journal, INVENTORY)
    journal.close()


def running(attempt_id: int = 1, **fields: Any) -> AttemptReport:
    return AttemptReport(attempt_id=attempt_id, fence=1, state="running", **fields)


def ended(attempt_id: int = 1) -> AttemptReport:
    return AttemptReport(attempt_id=attempt_id, fence=1, state="exited", outcome=Outcome.SUCCEEDED)


def test_there_is_news_until_it_has_been_said(link: Link) -> None:
    assert link.news_in() == 0.0
    assert link.exchange(0)
    assert link.news_in() is None
    link.observe([running()])
    assert link.news_in() == 0.0
    link.exchange(0)
    assert link.news_in() is None
    link.observe([ended()])
    assert link.news_in() == 0.0


def test_time_that_passes_is_no_news(link: Link) -> None:
    link.observe([running(elapsed_s=1)])
    link.exchange(0)
    link.observe([running(elapsed_s=2)])
    assert link.news_in() is None


def test_progress_is_said_at_most_four_times_a_second(link: Link) -> None:
    link.observe([running()])
    link.exchange(0)
    link.observe([running(progress={"step": 1})])
    pause = link.news_in()
    assert pause is not None
    assert 0 < pause <= 0.25


def test_the_inventory_is_sent_until_it_has_arrived(link: Link, far_end: FarEnd) -> None:
    far_end.answer_with = 503
    assert not link.exchange(0)
    far_end.answer_with = None
    link.exchange(0)
    link.exchange(0)
    assert [observed.inventory == INVENTORY for observed in far_end.observed] == [True, False]


def test_an_older_desired_state_is_ignored(link: Link, far_end: FarEnd) -> None:
    far_end.generation = 9
    link.exchange(0)
    far_end.generation = 5
    link.exchange(0)
    assert link.desired is not None
    assert link.desired.generation == 9


def test_a_failure_delays_the_next_try_within_the_lease(link: Link, far_end: FarEnd) -> None:
    far_end.lease_s = 2.0
    link.exchange(0)
    far_end.answer_with = 503
    for _ in range(8):
        assert not link.exchange(0)
    assert 0 < link.retry_in() <= 0.5
    far_end.answer_with = None
    assert link.exchange(0)
    assert link.retry_in() == 0.0


def test_a_refusal_is_not_repeated_soon(
    link: Link, far_end: FarEnd, caplog: pytest.LogCaptureFixture
) -> None:
    far_end.answer_with = 401
    link.exchange(0)
    assert link.retry_in() > 10
    assert "refuses this node" in caplog.text


def test_what_failed_to_be_said_is_news_again(link: Link, far_end: FarEnd) -> None:
    link.exchange(0)
    link.observe([running()])
    far_end.answer_with = 503
    link.exchange(0)
    pause = link.news_in()
    assert pause is not None
    assert pause > 0


def test_what_a_parked_exchange_carries_is_no_news(link: Link, far_end: FarEnd) -> None:
    link.exchange(0)
    link.applied(far_end.generation, [running()])
    parked = threading.Thread(target=link.exchange, args=(20.0,))
    parked.start()
    far_end.wait(lambda: len(far_end.observed) == 2)
    assert link.news_in() is None
    link.observe([ended()])
    assert link.news_in() == 0.0
    link.exchange(0)
    parked.join()  # what ended is settled: a newer desired state, which ends the wait
    assert link.news_in() is None
    assert link.desired is not None
    assert link.desired.generation == far_end.generation


def test_an_exchange_overtaken_by_a_later_one_costs_nothing(link: Link, far_end: FarEnd) -> None:
    early = link.observed(0.0)
    assert link.exchange(0)
    assert not link.send(early)
    assert link.retry_in() == 0.0
    far_end.answer_with = 409  # not overtaken: the server refuses what is the latest
    assert not link.exchange(0)
    assert link.retry_in() > 0.0


def test_only_an_answer_renews_the_lease(link: Link, far_end: FarEnd, tmp_path: Path) -> None:
    far_end.answer_with = 503
    link.exchange(0)
    assert lease_left(tmp_path) < 0
    far_end.answer_with = None
    link.exchange(0)
    assert 0 < lease_left(tmp_path) <= far_end.lease_s


def test_the_poll_is_well_within_the_lease(link: Link, far_end: FarEnd) -> None:
    assert link.poll_s() == 0.0
    far_end.poll_s, far_end.lease_s = 30.0, 20.0
    link.exchange(0)
    assert link.poll_s() == 10.0


def test_a_new_key_is_brought_when_the_server_asks_for_one(far_end: FarEnd, tmp_path: Path) -> None:
    journal, signer = Journal(tmp_path), Signer(tmp_path)
    with ControlPlane(far_end.url, far_end.knows(signer)) as control:
        link, before = Link(control, journal, INVENTORY, node_id=7), signer.key.id
        assert link.exchange(0)
        assert signer.key.id == before
        far_end.rotate = True
        assert link.exchange(0)
        assert list(far_end.keys) == [signer.key.id] != [before]
        assert link.exchange(0)
    journal.close()
