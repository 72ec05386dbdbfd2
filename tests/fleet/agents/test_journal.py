"""What a node remembers, and that it is whole whatever crashes."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from fleet.agents.attempts import Assignment, Limits, State
from fleet.agents.durable import create_json, read_json, write_json
from fleet.agents.journal import AlreadyRunning, Identity, Journal, lease_left
from fleet.agents.processes import Process, clock
from fleet.agents.protocol import AttemptSpec, KernelRef, KernelSpec, Outcome


def test_numbers_grow_within_and_across_starts(tmp_path: Path) -> None:
    seen = []
    for _ in range(3):
        journal = Journal(tmp_path)
        seen += [(journal.boot_id, journal.next_sequence()) for _ in range(3)]
        journal.close()  # without a word about the last number used, as in a crash
    assert seen == sorted(set(seen))
    sequences = [sequence for _, sequence in seen]
    assert sequences == sorted(set(sequences))


def test_threads_never_share_a_number(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    numbers: list[int] = []

    def draw() -> None:
        numbers.extend(journal.next_sequence() for _ in range(3000))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert len(set(numbers)) == 12_000


def test_a_state_directory_has_one_agent(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(AlreadyRunning, match="another agent"):
        Journal(tmp_path)
    journal.close()
    Journal(tmp_path).close()


def test_the_identity_is_kept_privately(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.identity() is None
    identity = Identity(7, "tiny1", "https://fleet.example")
    journal.enrolled(identity)
    assert journal.identity() == identity
    assert (tmp_path / "identity.json").stat().st_mode & 0o777 == 0o600
    journal.close()


def test_a_lease_counts_from_when_the_sync_left(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert lease_left(tmp_path) < 0
    sent = clock() - 10
    journal.renew(sent, 60)
    assert 49 < lease_left(tmp_path) <= 50
    journal.renew(sent - 5, 600)  # its answer was overtaken
    assert 49 < lease_left(tmp_path) <= 50
    journal.close()


def test_a_lease_of_another_boot_is_void(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.renew(clock(), 60)
    journal.close()
    lease = read_json(tmp_path / "lease.json")
    write_json(tmp_path / "lease.json", lease | {"boot": "another"})
    assert lease_left(tmp_path) < 0


def test_of_two_that_create_a_file_one_wins(tmp_path: Path) -> None:
    assert create_json(tmp_path / "state.json", {"by": 1})
    assert not create_json(tmp_path / "state.json", {"by": 2})
    assert read_json(tmp_path / "state.json") == {"by": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_an_attempts_files_read_back_as_they_were_written(tmp_path: Path) -> None:
    spec = KernelSpec(kernel=KernelRef(json={"nodes": []} | {"x": 1}))
    attempt = AttemptSpec(
        attempt_id=3,
        job_id=2,
        fence=9,
        spec=spec,
        device="cpu",
        exclusive=True,
        timeout_s=5,
        blobs=["0" * 64],
    )
    Assignment(attempt, Limits(grace_s=1)).save(tmp_path)
    assert Assignment.load(tmp_path) == Assignment(attempt, Limits(grace_s=1))
    state = State(
        "exited",
        supervisor=Process(1, 2),
        task=Process(3, 4),
        started=5.0,
        outcome=Outcome.FAILED,
        artifacts=("a", "b"),
    )
    assert state.claim(tmp_path)
    assert State.load(tmp_path) == state
    assert not State("starting").claim(tmp_path)
    assert "exited" in json.dumps(read_json(tmp_path / "state.json"))
