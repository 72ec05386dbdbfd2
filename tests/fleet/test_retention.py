"""What goes and what stays, over a real database and real files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker

from fleet import arrays, audit, crons, db, events, histories, jobs, references
from fleet import blobs as blob_rows
from fleet.agents.protocol import NoopSpec, Outcome, blob_address
from fleet.blobs import Blobs
from fleet.errors import InvalidSpec
from fleet.garbage import Collector
from fleet.models import (
    Attempt,
    Audit,
    Blob,
    BlobHolder,
    CronPoint,
    CronRun,
    Event,
    IdempotencyKey,
    Job,
    JobArray,
    Lease,
    LogChunk,
    Table,
)
from fleet.principals import Principal
from fleet.retention import DAY_S, BlobView, Bounds, Retention, addresses, going
from fleet.settings import Settings
from tests.fleet.acting import Agent
from tests.fleet.crons import HOUR, Clockwork

BOUNDS = Bounds(events=100.0, logs=100.0, history=100.0, blobs=100.0)


def test_a_blob_goes_when_it_is_old_and_nothing_refers_to_it() -> None:
    old, fresh, kept = (BlobView(f"{number:064x}", 1, at) for number, at in ((1, 99.0), (2, 100.0), (3, 1.0)))
    assert going([old, fresh, kept], {bytes.fromhex(kept.address)}, BOUNDS) == [old]


def test_a_grace_of_blobs_is_never_shorter_than_two_hours() -> None:
    assert Retention(blobs_s=1.0).bounds(10_000.0).blobs == 10_000.0 - 7200.0
    with pytest.raises(InvalidSpec, match="TINYFLEET_KEEP_BLOBS_S"):
        Settings.from_env({"TINYFLEET_KEEP_BLOBS_S": "60"})
    assert Settings.from_env({"TINYFLEET_KEEP_EVENTS_S": "60"}).retention.events_s == 60.0


@dataclass
class Store:
    """A control plane whose clock is set by hand, and its collector."""

    sessions: sessionmaker[Session]
    blobs: Blobs
    now: float
    collector: Collector

    def count(self, table: type[Table]) -> int:
        with db.reading(self.sessions) as reader:
            return reader.scalar(select(func.count()).select_from(table)) or 0

    def put(self, content: bytes, age_s: float = 10 * DAY_S) -> str:
        """A blob of that age."""
        with self.sessions.begin() as session:
            address = self.blobs.put(session, content, self.now - age_s, holder="tenant:default")
        os.utime(self.blobs.path(address), (self.now - age_s, self.now - age_s))
        return address

    def there(self, *found: str) -> list[bool]:
        """Which of these blobs have row and file; one of the two alone is an error."""
        with db.reading(self.sessions) as reader:
            rows = [reader.get(Blob, address) is not None for address in found]
        assert rows == [self.blobs.path(address).exists() for address in found]
        return rows

    def act(self, do: Callable[[Session], Any]) -> Any:
        with self.sessions.begin() as session:
            return do(session)


@pytest.fixture
def store(sessions: sessionmaker[Session], blobs: Blobs, now: float) -> Store:
    collector = Collector(
        partial(db.reading, sessions), partial(db.writing, sessions), blobs, Retention(), batch=3, batches=2
    )
    return Store(sessions, blobs, now, collector)


def event(store: Store, age_s: float) -> None:
    store.act(lambda session: events.append(session, "a.b", "node:1", {"x": "y" * 10}, store.now - age_s))


def test_old_events_go_a_bounded_pass_at_a_time_and_the_newest_stays(store: Store) -> None:
    for _ in range(8):
        event(store, 40 * DAY_S)
    would = store.collector.look(store.now)
    assert (would.rows["events"], would.bytes["events"] > 7 * 20) == (7, True)
    assert store.count(Event) == 8
    first = store.collector.collect(store.now)
    assert (first.rows["events"], first.more) == (6, True)  # two batches of three
    assert not store.collector.collect(store.now).more
    assert store.count(Event) == 1  # readers begin there
    event(store, 0)
    event(store, 0)
    store.collector.collect(store.now)
    assert store.count(Event) == 2


def test_an_event_that_is_not_old_stays(store: Store) -> None:
    for age_s in (29 * DAY_S, 1.0, 0.0):
        event(store, age_s)
    assert store.collector.collect(store.now).rows["events"] == 0


@pytest.fixture
def fleet(store: Store, agent: Agent, admin: Principal) -> Clockwork:
    return Clockwork(store.sessions, store.blobs, agent, admin, store.now)


def finished_job(fleet: Clockwork, artifacts: dict[str, str] | None = None) -> int:
    """The id of a job that has ended now, with a log."""
    with fleet.sessions.begin() as session:
        job_id = jobs.submit(
            session, NoopSpec(), principal=fleet.admin, now=fleet.now, idempotency_key=None
        ).id
    fleet.tick()
    fleet.agent.sync(fleet.now)
    for attempt_id, spec in list(fleet.agent.running.items()):
        with fleet.sessions.begin() as session:
            chunk = LogChunk(
                attempt_id=attempt_id, offset=0, data=b"12345", sequence=0, stream="stdout", stream_offset=0
            )
            session.add(chunk)
        assert spec.attempt_id == attempt_id
        fleet.agent.exit(attempt_id, Outcome.SUCCEEDED, artifacts=artifacts or {})
    fleet.agent.sync(fleet.now)
    fleet.agent.sync(fleet.now)
    return job_id


def test_logs_go_before_the_history_and_that_goes_whole(store: Store, fleet: Clockwork) -> None:
    finished_job(fleet)
    later = store.now + 31 * DAY_S
    assert store.collector.look(later).bytes["log chunks"] == 5
    store.collector.collect(later)
    assert (store.count(LogChunk), store.count(Job), store.count(Attempt)) == (0, 1, 1)
    store.collector.collect(store.now + 91 * DAY_S)
    assert [store.count(each) for each in (Job, Attempt, Lease)] == [0, 0, 0]


def test_a_job_that_is_not_over_stays_however_old(store: Store, fleet: Clockwork) -> None:
    with fleet.sessions.begin() as session:
        jobs.submit(session, NoopSpec(), principal=fleet.admin, now=store.now, idempotency_key="k")
    store.collector.collect(store.now + 999 * DAY_S)
    assert store.count(Job) == 1
    assert store.count(IdempotencyKey) == 0


def test_what_a_jobs_artifacts_name_stays_until_the_job_goes(store: Store, fleet: Clockwork) -> None:
    kept, loose = store.put(b"model"), store.put(b"nobody's")
    job_id = finished_job(fleet, {"model.bin": kept})
    would = store.collector.look(store.now)
    assert ([each.address for each in would.blobs], would.bytes["blobs"]) == ([loose], len(b"nobody's"))
    assert store.there(kept, loose) == [True, True]
    gone = store.collector.collect(store.now)
    assert [each.address for each in gone.blobs] == [loose]
    assert store.there(kept, loose) == [True, False]
    store.collector.collect(store.now + 91 * DAY_S)
    store.collector.collect(store.now + 91 * DAY_S)
    assert store.there(kept) == [False]
    assert job_id


@pytest.mark.parametrize("table", ["jobs", "attempts", "crons", "tuned_kernels", "rounds", "kernels"])
def test_every_table_that_can_name_a_blob_is_looked_at(table: str) -> None:
    assert table in {each.name for each in Table.metadata.sorted_tables} - references.NO_REFERENCES


def test_a_blob_that_was_just_uploaded_again_or_asked_for_stays(store: Store) -> None:
    addresses = [store.put(each) for each in (b"a", b"b", b"c")]
    store.act(lambda session: store.blobs.put(session, b"a", store.now))
    store.act(lambda session: blob_rows.touch(session, addresses[1:2], store.now))
    store.collector.collect(store.now)
    assert store.there(*addresses) == [True, True, False]
    assert store.act(lambda session: blob_rows.touch(session, addresses, store.now)) == set(addresses[:2])


def test_a_blob_that_is_named_between_the_look_and_the_sweep_stays(store: Store, fleet: Clockwork) -> None:
    address = store.put(b"named late")
    with db.reading(store.sessions) as reader:
        chosen = store.collector._unreferenced(reader, Retention().bounds(store.now), None)
    assert [each.address for each in chosen] == [address]
    spec = {"kind": "command", "argv": ["x"], "files": [{"path": "in", "blob": address}]}
    fleet.add(job={"spec": spec})  # this alone touches it
    with store.sessions.begin() as session:
        session.execute(text("UPDATE blobs SET touched_at = NULL"))  # as if it had not
    assert store.collector._remove_blobs(chosen, Retention().bounds(store.now), store.now - 600) == []
    assert store.there(address) == [True]
    assert store.collector.collect(store.now).rows["blobs"] == 0


def test_who_held_what_is_collected_holds_it_no_more(store: Store) -> None:
    address = store.put(b"content")
    store.collector.collect(store.now)
    assert store.there(address) == [False]
    assert store.count(BlobHolder) == 0


def test_an_upload_that_meets_the_collector_leaves_row_and_file(store: Store) -> None:
    address = store.put(b"content")
    store.blobs.keep(b"content")  # the upload has seen that the file is whole …
    os.utime(store.blobs.path(address), (1.0, 1.0))
    store.collector.collect(store.now)  # … then it is collected …
    assert store.there(address) == [False]
    with store.sessions.begin() as session:
        store.blobs.record(session, address, b"content", store.now)  # … and then its row is written
    assert store.there(address) == [True]
    assert store.blobs.get(address) == b"content"


def test_files_without_a_row_go_and_a_pass_that_broke_off_is_mended(store: Store) -> None:
    address = store.put(b"kept")
    loose = store.blobs.keep(b"no row")
    half = store.blobs.path(address).with_name("tmp_upload")
    half.write_bytes(b"half")
    for path in (half, store.blobs.path(loose)):
        os.utime(path, (1.0, 1.0))
    fresh = store.blobs.keep(b"an upload whose row is on its way")
    [aside] = store.blobs.put_aside(address)
    with store.sessions.begin() as session:
        session.execute(text("UPDATE blobs SET touched_at = :now"), {"now": store.now})
    assert store.collector.look(store.now).rows["stray files"] == 2
    assert store.collector.collect(store.now).rows["stray files"] == 2
    assert store.there(address) == [True]
    assert not aside.exists()
    assert not half.exists()
    assert (store.blobs.path(loose).exists(), store.blobs.path(fresh).exists()) == (False, True)


def test_the_last_two_hundred_runs_of_a_cron_stay_with_their_numbers(store: Store, fleet: Clockwork) -> None:
    cron_id = fleet.add(paused=True)
    with store.sessions.begin() as session:
        for number in range(histories.KEPT_RUNS + 4):
            at = store.now - 200 * DAY_S + number
            run = CronRun(
                cron_id=cron_id,
                scheduled_at=at,
                state="succeeded",
                state_at=at,
                created_at=at,
                finished_at=at,
            )
            session.add(run)
            session.flush()
            session.add(
                CronPoint(cron_id=cron_id, name="x", run_id=run.id, at=at, value=1.0, verdict="ok", good=True)
            )
    assert store.collector.look(store.now).rows["cron runs"] == 4
    store.collector.collect(store.now)
    assert (store.count(CronRun), store.count(CronPoint)) == (histories.KEPT_RUNS, histories.KEPT_RUNS)


def test_a_removed_cron_goes_with_all_its_runs(store: Store, fleet: Clockwork) -> None:
    cron_id = fleet.add()
    fleet.at(fleet.now - fleet.now % HOUR + HOUR + 1)
    with store.sessions.begin() as session:
        crons.remove(session, cron_id, fleet.admin, fleet.now)
    for _ in range(2):
        store.collector.collect(fleet.now + 91 * DAY_S)
    assert store.count(CronRun) == 0
    assert store.act(lambda session: session.execute(text("SELECT count(*) FROM crons")).scalar()) == 0


def test_the_audit_stays_and_its_chain_is_verified(store: Store, fleet: Clockwork) -> None:
    key = bytes(32)
    for _ in range(3):
        finished_job(fleet)
    store.act(lambda session: audit.seal(session, key))
    before = store.count(Audit)
    store.collector.collect(store.now + 999 * DAY_S)
    assert store.count(Audit) == before > 0
    with db.reading(store.sessions) as reader:
        assert audit.verify(reader, key, (), store.now).problems == ()


# Foreign keys to what is collected: what goes with it, or keeps it. One that is new has to be given its place in
# fleet/histories.py, and then here.
KNOWN = {
    "blob_holders.address",  # goes with its blob, by the database
    "attempts.job_id", "leases.attempt_id", "lease_gpus.lease_id", "log_chunks.attempt_id", "dependencies.job_id",
    "array_dependencies.job_id", "dependencies.on_job_id", "jobs.search_id", "rounds.search_id", "tuned_kernels.search_id", "quarantine.search_id",
    "cron_runs.cron_id", "cron_points.cron_id", "cron_points.run_id", "deliveries.webhook_id",
}  # fmt: skip
COLLECTED = {"jobs", "attempts", "leases", "searches", "crons", "cron_runs", "webhooks", "events", "blobs"}


def test_everything_that_refers_to_what_is_collected_is_known() -> None:
    found = {
        f"{table.name}.{key.parent.name}"
        for table in Table.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column.table.name in COLLECTED
    }
    assert found == KNOWN


def test_the_jobs_of_an_array_stay_while_a_job_or_an_array_waits_for_it(
    store: Store, fleet: Clockwork, admin: Principal
) -> None:
    def asked(**after: Any) -> int:
        wanted = jobs.asked(NoopSpec(), **after)
        return int(
            store.act(lambda session: arrays.submit(session, wanted, 2, principal=admin, now=store.now).id)
        )

    first = asked()
    waits = partial(jobs.submit, spec=NoopSpec(), principal=admin, now=store.now)
    job = store.act(lambda session: waits(session, after_ok_arrays=[first])).id
    second = asked(after_ok_arrays=[first])
    with store.sessions.begin() as session:  # its jobs have ended, long ago, and nobody has looked since
        rows = [
            jobs.row(
                NoopSpec(),
                tenant="default",
                created_by="x",
                now=1.0,
                timeout_s=1.0,
                array_id=first,
                array_index=each,
            )
            for each in range(2)
        ]
        jobs.insert_all(session, rows, 1.0)
        for row in rows:
            row.state, row.finished_at = "succeeded", 2.0
        session.get_one(JobArray, first).made = 2
    later = store.now + 200 * DAY_S
    assert store.collector.collect(later).rows["jobs"] == 0
    store.act(lambda session: jobs.cancel(session, job, admin, store.now))
    assert store.collector.collect(store.now).rows["jobs"] == 0, "an array waits yet"
    store.act(lambda session: arrays.cancel(session, second, admin, store.now))
    assert store.collector.collect(store.now).rows["jobs"] == 2


def test_what_something_unknown_refers_to_stays_and_the_rest_goes_on(store: Store, fleet: Clockwork) -> None:
    finished_job(fleet)
    kinds = {kind.name: kind for kind in histories.KINDS}
    reckless = replace(kinds["jobs"], remove=lambda session, chosen: _remove_only(session, chosen))
    haul = store.collector.look(store.now)
    store.collector._collect_rows(reckless, Retention().bounds(store.now + 91 * DAY_S), haul)
    assert store.count(Job) == 1
    assert store.collector.collect(store.now + 91 * DAY_S).rows["jobs"] == 1


def _remove_only(session: Session, chosen: Any) -> tuple[int, int]:
    """A job without what belongs to it."""
    session.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": chosen[0]})
    return 1, 0


def test_an_address_is_found_wherever_it_stands() -> None:
    address = blob_address(b"x")
    assert list(addresses(json.dumps({"a": [{"b": address}], "c": f"blob:{address}"}))) == [address] * 2
    assert list(addresses(address + "0")) == []
