"""Whole agents against a far end over real HTTP: what becomes of attempts, whatever dies."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from fleet.agents.attempts import Limits
from fleet.agents.processes import alive, descendants, kill
from fleet.agents.protocol import Outcome, blob_address
from tests.fleet.agents.conftest import Node, Start, gone, until
from tests.fleet.agents.far_end import JOIN_TOKEN, FarEnd
from tests.fleet.agents.odd_tasks import spec

pytestmark = pytest.mark.slow


def noop(**fields: Any) -> dict[str, Any]:
    return {"kind": "noop", **fields}


def test_a_node_enrols_and_runs_a_job_to_success(far_end: FarEnd, start_agent: Start) -> None:
    attempt = far_end.submit(noop())
    agent = start_agent(far_end)
    ended = far_end.wait_exit(attempt)
    assert ended.outcome is Outcome.SUCCEEDED
    assert ended.result == {"seconds": 0.0}
    assert bytes(far_end.logs[attempt, 1]) == b"noop: 0 s\n"
    assert [request.name for request in far_end.enrolments] == ["tiny1"]
    first = far_end.observed[0]
    assert first.inventory is not None
    assert first.inventory.devices[0].name == "cpu"
    until(lambda: not agent.directory(attempt).exists())


def test_an_enrolled_node_does_not_enrol_again(far_end: FarEnd, start_agent: Start) -> None:
    agent = start_agent(far_end)
    far_end.wait(lambda: far_end.observed)
    assert agent.end(signal.SIGTERM) == 0
    boots = {observed.boot_id for observed in far_end.observed}
    start_agent(far_end)
    far_end.wait(lambda: {observed.boot_id for observed in far_end.observed} > boots)
    assert len(far_end.enrolments) == 1
    numbers = [(observed.boot_id, observed.sequence) for observed in far_end.observed]
    assert numbers == sorted(set(numbers))


def test_secrets_are_kept_out_of_arguments_logs_and_the_environment_of_tasks(node: Node) -> None:
    far_end, agent = node
    attempt = far_end.submit(spec("describe_process"))
    ended = far_end.wait_exit(attempt)
    assert ended.result is not None
    for text in (Path(f"/proc/{agent.process.pid}/cmdline").read_text(), agent.output.read_text()):
        assert JOIN_TOKEN not in text
    assert JOIN_TOKEN not in str(ended.result["environment"])
    for name in ("identity.json", "node.key"):
        assert (agent.state / name).stat().st_mode & 0o777 == 0o600


def test_a_task_runs_alone_in_a_process_of_its_own(node: Node) -> None:
    far_end = node.far_end
    ended = far_end.wait_exit(far_end.submit(spec("describe_process")))
    assert ended.result is not None
    assert ended.result["threads"] == 1
    assert ended.result["session"] is True
    assert ended.result["input"] == ""
    assert ended.result["descriptors"] <= 5  # the three, the one to speak through and the one that lists them


@pytest.mark.parametrize(
    ("job", "outcome", "error"),
    [
        (noop(fail=True), Outcome.FAILED, "ToldToFail: the spec says fail"),
        (spec("crash"), Outcome.FAILED, "killed by SIGSEGV"),
        (spec("leave", status=3), Outcome.FAILED, "exit status 3"),
        (spec("fail_with_result"), Outcome.FAILED, "nearly"),
        (spec("refuse_spec"), Outcome.INVALID, "kernel.shape: sizes 3 and 4 do not fit"),
    ],
    ids=["raises", "crashes", "leaves", "nearly", "invalid"],
)
def test_a_job_that_fails_says_how(node: Node, job: dict[str, Any], outcome: Outcome, error: str) -> None:
    far_end = node.far_end
    ended = far_end.wait_exit(far_end.submit(job))
    assert ended.outcome is outcome
    assert error in ended.error
    assert ended.result == ({"so far": 1} if "nearly" in error else None)


@pytest.mark.real
def test_a_job_over_its_timeout_is_ended(node: Node) -> None:
    far_end = node.far_end
    ended = far_end.wait_exit(far_end.submit(noop(seconds=600), timeout_s=0.5))
    assert ended.outcome is Outcome.TIMED_OUT
    assert 0.5 <= ended.elapsed_s < 10
    assert "timeout of 0.5 s" in ended.error


@pytest.mark.real
def test_cancelling_leaves_no_process_behind(node: Node) -> None:
    far_end, agent = node
    attempt = far_end.submit(spec("refuse_to_end"))
    far_end.wait_running(attempt, "settled in")
    pids = [int(path.name) for path in (agent.directory(attempt) / "work" / "pids").iterdir()]
    assert len(pids) == 3
    assert not any(map(gone, pids))
    far_end.withdraw(attempt)
    assert far_end.wait_exit(attempt).outcome is Outcome.CANCELLED
    assert all(map(gone, pids))


def test_a_task_that_is_cancelled_can_write_down_that_it_was(node: Node) -> None:
    far_end, agent = node
    far_end.settles = False
    attempt = far_end.submit(spec("write_a_will"))
    far_end.wait_running(attempt, "working")
    far_end.withdraw(attempt)
    assert far_end.wait_exit(attempt).outcome is Outcome.CANCELLED
    assert (agent.directory(attempt) / "work" / "will").read_text() == "it was not my fault"
    far_end.settle(attempt)


def test_a_job_that_succeeds_leaves_no_daemon_behind(node: Node) -> None:
    far_end, agent = node
    far_end.settles = False
    attempt = far_end.submit(spec("leave_daemons"))
    assert far_end.wait_exit(attempt).outcome is Outcome.SUCCEEDED
    pids = [int(path.name) for path in (agent.directory(attempt) / "work" / "pids").iterdir()]
    far_end.settle(attempt)
    assert len(pids) == 2
    assert all(map(gone, pids))


def test_an_attempt_outlives_its_agent_and_the_next_one_reports_it(
    far_end: FarEnd, start_agent: Start
) -> None:
    agent = start_agent(far_end)
    attempt = far_end.submit(spec("wait_for_gate"))
    far_end.wait_running(attempt, "at the gate")
    agent.end(signal.SIGKILL)
    running = agent.attempt(attempt)
    assert running.supervisor is not None
    assert running.task is not None
    assert alive(running.supervisor)
    successor = start_agent(far_end)
    far_end.wait(lambda: len({observed.boot_id for observed in far_end.observed}) == 2)
    (successor.directory(attempt) / "work" / "gate").touch()
    ended = far_end.wait_exit(attempt)
    assert ended.outcome is Outcome.SUCCEEDED
    assert ended.result == {"passed": True}
    assert alive(running.task) is False
    assert bytes(far_end.logs[attempt, 1]) == b"waiting at the gate\n"


def test_what_ended_while_no_agent_was_there_is_reported_by_the_next(
    far_end: FarEnd, start_agent: Start
) -> None:
    agent = start_agent(far_end)
    attempt = far_end.submit(spec("wait_for_gate"))
    far_end.wait_running(attempt, "at the gate")
    agent.end(signal.SIGTERM)
    (agent.directory(attempt) / "work" / "gate").touch()
    until(lambda: agent.attempt(attempt).phase == "exited")
    assert far_end.exit(attempt) is None
    start_agent(far_end)
    assert far_end.wait_exit(attempt).outcome is Outcome.SUCCEEDED


def test_agent_and_supervisor_killed_is_the_machines_failure(far_end: FarEnd, start_agent: Start) -> None:
    agent = start_agent(far_end)
    attempt = far_end.submit(spec("wait_for_gate"))
    far_end.wait_running(attempt, "at the gate")
    task = agent.attempt(attempt).task
    assert task is not None
    agent.end(signal.SIGKILL)
    agent.kill_supervisor(attempt)
    until(lambda: not alive(task))  # it dies with its supervisor
    start_agent(far_end)
    ended = far_end.wait_exit(attempt)
    assert ended.outcome is Outcome.INFRA_FAILED
    assert "supervisor died" in ended.error


def test_a_supervisor_killed_alone_is_the_machines_failure_and_its_daemons_go_too(
    far_end: FarEnd, start_agent: Start
) -> None:
    agent = start_agent(far_end)
    attempt = far_end.submit(spec("refuse_to_end"))
    far_end.wait_running(attempt, "settled in")
    folder = agent.directory(attempt) / "work" / "pids"
    # The one that was executed cleared its environment: only walls can find it, where there are some.
    forked = [int(path.name) for path in folder.iterdir() if b"TINYFLEET" in _environment(int(path.name))]
    others = {int(path.name) for path in folder.iterdir()} - set(forked)
    assert len(forked) == 2
    agent.kill_supervisor(attempt)
    assert far_end.wait_exit(attempt).outcome is Outcome.INFRA_FAILED
    until(lambda: all(map(gone, forked)))
    kill(list(others), signal.SIGKILL)


def _environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_a_zygote_that_dies_is_replaced(node: Node) -> None:
    far_end, agent = node
    assert far_end.wait_exit(far_end.submit(noop())).outcome is Outcome.SUCCEEDED
    until(
        lambda: len(descendants(agent.process.pid)) == 2
    )  # the supervisor is about to end, a spare one is there
    zygote, spare = descendants(agent.process.pid)
    assert len(list(Path(f"/proc/{zygote}/task").iterdir())) == 1  # a fork of more would hang some day
    kill([zygote], signal.SIGKILL)
    until(lambda: gone(zygote) and gone(spare))
    assert far_end.wait_exit(far_end.submit(noop())).outcome is Outcome.SUCCEEDED


@pytest.mark.real
def test_a_node_cut_off_ends_its_attempts_when_the_lease_runs_out(start_agent: Start) -> None:
    far_end = FarEnd(lease_s=2.0, poll_s=0.5).open()
    agent = start_agent(far_end)
    attempt = far_end.submit(spec("wait_for_gate"))
    far_end.wait_running(attempt, "at the gate")
    far_end.go_silent()
    until(lambda: agent.attempt(attempt).phase == "exited")
    ended = agent.attempt(attempt)
    assert ended.outcome is Outcome.INFRA_FAILED
    assert "lease ran out" in ended.error
    with far_end.changed:
        far_end.silent = False
    assert far_end.wait_exit(attempt).outcome is Outcome.INFRA_FAILED
    far_end.close()


@pytest.mark.real
def test_the_lease_ends_an_attempt_that_no_agent_watches(start_agent: Start) -> None:
    far_end = FarEnd(lease_s=2.0, poll_s=0.5).open()
    agent = start_agent(far_end)
    attempt = far_end.submit(spec("wait_for_gate"))
    far_end.wait_running(attempt, "at the gate")
    agent.end(signal.SIGKILL)
    until(lambda: agent.attempt(attempt).phase == "exited")
    assert "lease ran out" in agent.attempt(attempt).error
    far_end.close()


def test_logs_arrive_whole_and_in_order(node: Node) -> None:
    far_end = node.far_end
    attempt = far_end.submit(spec("chatter", lines=100_000))
    assert far_end.wait_exit(attempt).outcome is Outcome.SUCCEEDED
    expected = "".join(f"line {number}\n" for number in range(100_000)).encode()
    assert bytes(far_end.logs[attempt, 1]) == expected
    assert len(far_end.log_chunks) > 1


def test_a_log_over_its_quota_is_cut_visibly(node: Node) -> None:
    far_end = node.far_end
    attempt = far_end.submit(spec("chatter", lines=100, width=100_000))
    assert far_end.wait_exit(attempt).outcome is Outcome.SUCCEEDED
    log = bytes(far_end.logs[attempt, 1])
    assert log.startswith(b"line 0 ")
    assert b"[tinyfleet: output cut here: over the limit of %d bytes]" % Limits.log_bytes in log
    assert Limits.log_bytes < len(log) < 4 << 20


def test_artifacts_arrive_with_the_exit_and_only_plain_files(node: Node) -> None:
    far_end = node.far_end
    far_end.largest_blob = 1024
    ended = far_end.wait_exit(far_end.submit(spec("make_artifacts")))
    assert ended.outcome is Outcome.SUCCEEDED
    assert list(ended.artifacts) == ["good.json"]
    assert far_end.blobs[ended.artifacts["good.json"]] == b'{"good": true}'
    assert "big.bin" in ended.error  # the server did not take it
    far_end.largest_blob = 1 << 30
    log = bytes(far_end.logs[ended.attempt_id, 1]).decode()
    assert "artifact 'a link' is not kept: not a plain file" in log
    assert b"root:" not in b"".join(far_end.blobs.values())


def test_a_large_result_travels_as_an_artifact(node: Node) -> None:
    far_end = node.far_end
    ended = far_end.wait_exit(far_end.submit(spec("return_much")))
    assert ended.result == {"artifact": "result.json"}
    assert far_end.blobs[ended.artifacts["result.json"]].startswith(b'{"numbers": [0, 1, 2')


def test_inputs_are_fetched_and_checked_before_the_start(node: Node) -> None:
    far_end, agent = node
    address = blob_address(b"hello")
    far_end.blobs[address] = b"hello"
    ended = far_end.wait_exit(far_end.submit(spec("read_inputs"), blobs=[address]))
    assert ended.result == {address: "hello"}
    assert (agent.state / "blobs" / address).read_bytes() == b"hello"
    (agent.state / "blobs" / address).write_bytes(b"damaged")
    ended = far_end.wait_exit(far_end.submit(spec("read_inputs"), blobs=[address]))
    assert ended.result == {address: "hello"}


def test_an_input_that_is_not_there_is_said_and_nothing_runs(node: Node) -> None:
    far_end = node.far_end
    ended = far_end.wait_exit(far_end.submit(spec("read_inputs"), blobs=[blob_address(b"never stored")]))
    assert ended.outcome is Outcome.INFRA_FAILED
    assert "input blob" in ended.error


def test_results_are_kept_until_the_server_has_recorded_them(far_end: FarEnd, start_agent: Start) -> None:
    far_end.settles = False
    agent = start_agent(far_end)
    attempt = far_end.submit(noop())
    far_end.wait_exit(attempt)
    agent.end(signal.SIGKILL)
    boots = {observed.boot_id for observed in far_end.observed}
    start_agent(far_end)
    far_end.wait(
        lambda: any(
            observed.boot_id not in boots and any(item.state == "exited" for item in observed.attempts)
            for observed in far_end.observed
        )
    )
    assert agent.directory(attempt).exists()
    far_end.settle(attempt)
    until(lambda: not agent.directory(attempt).exists())


def test_a_newer_fence_replaces_what_runs_under_the_older(far_end: FarEnd, start_agent: Start) -> None:
    start_agent(far_end)
    attempt = far_end.submit(spec("wait_for_gate"), exclusive=True)
    far_end.wait_running(attempt, "at the gate")
    with far_end.changed:
        far_end.settles = False
        far_end.wanted[attempt] = far_end.wanted[attempt].model_copy(update={"fence": 2})
        far_end.turn()
    far_end.wait(
        lambda: any(item.fence == 2 and item.state == "running" for item in far_end.reports[attempt])
    )
    states = [(item.fence, item.state) for item in far_end.reports[attempt]]
    assert (1, "exited") in states[: states.index((2, "running"))]


def test_a_task_process_that_cannot_start_is_reported_with_its_last_words(
    far_end: FarEnd, start_agent: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYFLEET_START_S", "1")
    start_agent(far_end, setup="tests.fleet.agents.odd_tasks:no_such_function")
    ended = far_end.wait_exit(far_end.submit(noop()))
    assert ended.outcome is Outcome.INFRA_FAILED
    assert "no_such_function" in ended.error


def test_a_node_that_is_refused_says_so_and_keeps_its_work(far_end: FarEnd, start_agent: Start) -> None:
    agent = start_agent(far_end)
    attempt = far_end.submit(spec("wait_for_gate"))
    far_end.wait_running(attempt, "at the gate")
    far_end.answer_with = 403
    with far_end.changed:
        far_end.turn()
    until(lambda: "refuses this node" in agent.output.read_text())
    assert agent.attempt(attempt).phase == "running"


def test_ctrl_c_ends_an_agent_cleanly(far_end: FarEnd, start_agent: Start) -> None:
    agent = start_agent(far_end)
    far_end.wait(lambda: far_end.observed)
    assert agent.end(signal.SIGINT) == 0


def test_a_join_token_that_is_refused_ends_the_agent_with_an_explanation(
    far_end: FarEnd, start_agent: Start
) -> None:
    far_end.answer_with = 403
    agent = start_agent(far_end)
    assert agent.process.wait(25) == 3
    assert "did not accept this node" in agent.output.read_text()


def test_two_agents_cannot_share_a_state_directory(far_end: FarEnd, start_agent: Start) -> None:
    agent = start_agent(far_end)
    far_end.wait(lambda: far_end.observed)
    second = start_agent(far_end)
    assert second.process.wait(25) == 2
    assert "another agent runs" in agent.output.read_text()


def test_the_agents_own_process_stays_small(node: Node) -> None:
    far_end, agent = node
    assert far_end.wait_exit(far_end.submit(noop())).outcome is Outcome.SUCCEEDED
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    assert resident < 60 * 1024, f"{resident} KiB"
