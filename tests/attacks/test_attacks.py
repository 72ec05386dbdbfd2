"""Every attack through a real agent and its runner, with all the walls that this machine has."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import pytest

from fleet.agents.attempts import Limits
from fleet.agents.protocol import Outcome
from fleet.agents.walls.groups import prefix_of
from tests.attacks.armed import spec
from tests.attacks.catalogue import BY_NAME
from tests.attacks.fort import Fort
from tests.fleet.agents.conftest import gone, until
from tests.parts import need

pytestmark = pytest.mark.slow

# What an agent that is not root leaves open, because its attempts are its own user: said in docs/walls.md.
SAME_USER = frozenset({"move_agent_to_core"})


@pytest.mark.parametrize("name", BY_NAME)
def test_an_attack_is_stopped(stands: Fort, name: str) -> None:
    whole = frozenset(wall for wall, report in stands.walls.items() if report.state == "up")
    if not {"landlock", "seccomp"} <= whole and not BY_NAME[name].stops(whole):
        pytest.skip(f"this machine lacks what stops it: {stands.walls['landlock'].detail}")
    ended = stands.attack(name, **stands.target)
    assert ended.result is not None, ended.error
    found = ended.result[name]
    expected = "through" if name in SAME_USER and "uid" not in stands.standing else "stopped"
    print(f"{name:<28}{expected:<10}{found['verdict']:<10}{found['how']}")
    assert found["verdict"] == expected, found["how"]


def test_the_attempt_is_nobody_with_no_rights(stands: Fort) -> None:
    found = stands.attack("describe").result
    assert found is not None
    assert int(found["CapEff"], 16) == 0
    assert found["NoNewPrivs"].strip() == "1"
    assert found["Seccomp"].strip() == "2"
    assert 0 not in found["uid"]
    assert 0 not in found["gid"]


def test_native_code_is_compiled_inside_and_stopped_as_all_other(stands: Fort) -> None:
    compiler = need("cc", "gcc", "clang", install="gcc")
    source = (Path(__file__).parent / "native.c").read_text()
    arguments = [str(stands.state / "identity.json"), str(stands.process.pid), str(stands.target["port"])]
    ended = stands.attack("native", source=source, compiler=compiler, arguments=arguments)
    assert ended.result == {
        "token": "stopped",
        "signal": "stopped",
        "network": "stopped",
        "other-table": "stopped",
        "x32": "stopped",
        "own-code": "through",  # allowed: kernels are made at run time
    }, ended.error


def test_candidates_are_made_compiled_and_measured_inside(stands: Fort) -> None:
    kernel = {"program": "gemm", "shape": [32, 32, 32]}
    made = stands.run({"kind": "expand", "kernel": kernel, "limit": 4, "threads": 2})
    assert made.result is not None, made.error
    batch = {"kind": "measure", "kernel": kernel, "candidates": made.result["candidates"], "budget_s": 30.0}
    measured = stands.run(batch | {"threads": 2}, exclusive=True)
    assert measured.result is not None, measured.error
    assert {each["outcome"] for each in measured.result["results"]} <= {"ok", "slow"}
    assert not list((stands.state / "cache").iterdir())  # nothing is left for others to load


def test_it_sees_no_processes_but_its_own(stands: Fort) -> None:
    """Command lines are where other people put their secrets."""
    if stands.walls["namespaces"].state != "up" or "uid" not in stands.standing:
        pytest.skip("its processes are other people's too, or /proc is shared")
    ended = stands.attack("list_processes")
    assert ended.result is not None, ended.error
    assert set(ended.result["found"]) == {str(ended.result["own"])}


def test_what_bubblewrap_would_hide_beside(stands: Fort) -> None:
    """Said to be open in docs/walls.md: what is no secret of its owner, and a container hides."""
    ended = stands.attack("look_around", path="/etc/passwd")
    assert ended.result is not None, ended.error
    if "landlock" in stands.standing:
        assert ended.result["read"] == errno.EACCES
        assert ended.result["bytes"] == Path("/etc/passwd").stat().st_size
        if "cgroup" in stands.standing:
            assert f"/tinyfleet-{prefix_of(stands.state).split('-')[1]}-" in ended.result["group"]
    if "uid" not in stands.standing:
        seen = stands.attack("list_processes").result
        assert seen is not None
        assert "fleet.agents" in seen["found"][str(stands.process.pid)]


def test_shared_memory_ends_with_the_attempt_that_made_it(stands: Fort) -> None:
    number = stands.segment ^ 0x00800000
    first, second = (stands.attack("leave_shared_memory", segment=number) for _ in range(2))
    for ended in (first, second):
        if stands.walls["namespaces"].state == "missing":
            assert ended.outcome is Outcome.FAILED, "refused"
        else:
            assert ended.result == {"found": None, "errno": errno.ENOENT}, ended.error


def test_after_a_fork_bomb_the_next_attempt_works(stands: Fort) -> None:
    assert stands.attack("fork_bomb", **stands.target).outcome is Outcome.SUCCEEDED
    assert stands.healthy()


def test_daemons_that_hide_are_dead_when_the_attempt_is_said_to_have_ended(stands: Fort) -> None:
    stands.far_end.settles = False
    attempt = stands.far_end.submit(spec("leave_daemons"))
    ended = stands.far_end.wait_exit(attempt)
    pids = [int(path.name) for path in (stands.directory(attempt) / "work" / "pids").iterdir()]
    stands.far_end.settle(attempt)
    assert ended.outcome is Outcome.SUCCEEDED
    assert len(pids) == 2
    assert all(map(gone, pids))


def test_daemons_of_a_dead_supervisor_are_found_and_killed(stands: Fort) -> None:
    stands.far_end.settles = False
    attempt = stands.far_end.submit(spec("ignore_the_end"))
    stands.far_end.wait_running(attempt, "settled in")
    pids = [int(path.name) for path in (stands.directory(attempt) / "work" / "pids").iterdir()]
    supervisor = stands.recorded(attempt).supervisor
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    ended = stands.far_end.wait_exit(attempt)
    stands.far_end.settle(attempt)
    assert ended.outcome is Outcome.INFRA_FAILED
    if stands.standing & {"uid", "cgroup"}:
        until(lambda: all(map(gone, pids)))
    else:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_endless_output_is_cut_to_the_byte(stands: Fort) -> None:
    ended = stands.attack("talk_endlessly", timeout_s=1.0)
    assert ended.outcome is Outcome.TIMED_OUT
    log = bytes(stands.far_end.logs[ended.attempt_id, 1])
    assert log.count(b"x", 0, log.index(b"\n[tinyfleet: output cut here")) == Limits.log_bytes
    assert len(log) < 4 << 20


@pytest.mark.real
def test_one_that_ignores_sigterm_is_killed_after_its_grace(stands: Fort) -> None:
    ended = stands.attack("ignore_the_end", timeout_s=0.5)
    assert ended.outcome is Outcome.TIMED_OUT
    assert 0.5 + Limits.grace_s <= ended.elapsed_s < 15


def test_a_hole_in_an_artifact_counts_as_if_it_were_full(stands: Fort) -> None:
    ended = stands.attack("leave_sparse_artifact")
    assert list(ended.artifacts) == ["small.txt"]
    assert "'sparse.bin' is not kept: only" in stands.log(ended.attempt_id)


@pytest.mark.parametrize("deleted", [False, True], ids=["kept", "deleted and held open"])
def test_one_that_fills_the_disk_is_ended(stands: Fort, deleted: bool) -> None:
    ended = stands.attack("fill_the_disk", deleted=deleted)
    assert (ended.outcome, ended.error) == (
        Outcome.FAILED,
        f"its files take more than {256 << 20} bytes of the disk",
    )


def test_one_that_makes_files_without_end_is_ended(stands: Fort) -> None:
    ended = stands.attack("take_all_names")
    assert (ended.outcome, ended.error) == (Outcome.FAILED, "it has more than 20000 files")


def test_what_is_nested_too_deep_to_count_is_ended(stands: Fort) -> None:
    ended = stands.attack("nest_folders")
    assert (ended.outcome, ended.error) == (Outcome.FAILED, "its folders are nested more than 200 deep")


def test_of_too_many_artifacts_some_are_kept_and_the_log_stays_short(stands: Fort) -> None:
    ended = stands.attack("leave_many_artifacts")
    assert len(ended.artifacts) == Limits.artifact_count
    assert len(stands.log(ended.attempt_id)) < 8192


def test_names_that_lie_are_no_names_of_artifacts(stands: Fort) -> None:
    ended = stands.attack("leave_strange_names")
    assert ended.artifacts == {}
    log = stands.log(ended.attempt_id)
    assert log.count("is not kept: its name") == 6
    assert "\x1b" not in log


def test_links_are_no_artifacts(stands: Fort) -> None:
    ended = stands.attack("leave_links", secret=str(stands.secret))
    assert ended.artifacts == {}
    assert "'link' is not kept: not a plain file" in stands.log(ended.attempt_id)
    assert "'twice' is not kept: it has other names" in stands.log(ended.attempt_id)


def test_a_link_in_place_of_the_folder_gives_away_nothing(stands: Fort) -> None:
    ended = stands.attack("put_a_link_for_the_folder", secret=str(stands.secret))
    assert ended.artifacts == {}
    assert stands.secret.read_text() == "canary-of-the-key"
    assert not any(b"canary-of-the-key" in blob for blob in stands.far_end.blobs.values())


def test_what_is_deep_and_shut_is_removed_all_the_same(stands: Fort) -> None:
    ended = stands.attack("leave_what_cannot_be_removed")
    until(lambda: not stands.directory(ended.attempt_id).exists())
    until(lambda: not stands.directory(ended.attempt_id).with_name(f".{ended.attempt_id}-1").exists())
    assert stands.healthy()


def test_nonsense_said_to_the_supervisor_breaks_nobody(stands: Fort) -> None:
    ended = stands.attack("speak_nonsense")
    assert ended.outcome is Outcome.SUCCEEDED, ended.error
    assert ended.result == {"said": True}
    assert len(json.dumps(ended.progress)) < 200_000
    assert stands.healthy()


@pytest.mark.parametrize("outcome", ["device_wedged", "node_lost", "timed_out", "excellent"])
def test_an_outcome_that_is_not_the_tasks_to_claim_is_not_believed(stands: Fort, outcome: str) -> None:
    ended = stands.attack("forge_an_outcome", outcome=outcome)
    assert ended.outcome is Outcome.FAILED
    assert ended.result is None


def test_the_agent_has_lived_through_all_of_it(stands: Fort) -> None:
    assert stands.healthy()
    assert "Traceback" not in stands.words()
