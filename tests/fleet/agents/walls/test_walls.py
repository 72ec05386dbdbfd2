"""The parts of the walls that can be looked at without raising one."""

from __future__ import annotations

import os
import signal
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.agents.walls import gpu, groups, known_answer, landlock
from fleet.agents.walls.cell import Cell
from fleet.agents.walls.machine import Survey, Wall
from fleet.agents.walls.policy import WALLS, Ceilings, chosen, policy
from fleet.agents.walls.slots import FIRST, NoSlot, Slot, inhabitant
from fleet.agents.walls.ways import closed

MOUNTINFO = """\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory
"""


def test_version_2_is_found_among_the_mounts_and_this_process_in_it() -> None:
    assert groups.mount_of(MOUNTINFO) == Path("/sys/fs/cgroup/unified")
    assert groups.mount_of("31 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory") is None
    assert groups.own_of("4:memory:/a\n0::/system.slice/agent\n") == "/system.slice/agent"
    assert groups.own_of("4:memory:/a\n") is None


def test_kinds_that_compile_may_execute_programs_and_only_a_gpus_attempt_has_one() -> None:
    assert policy("kernel", "cpu", Ceilings()).programs
    assert not policy("noop", "cpu", Ceilings()).programs
    assert policy("measure", "gpu3", Ceilings()).gpus == (3,)
    assert policy("measure", "cpu", Ceilings()).gpus == ()
    assert policy("measure", "gpu", Ceilings()).gpus == ()
    assert policy("command", "cpu", Ceilings(), ["gpu2", "gpu0"]).gpus == (0, 2)


def test_an_operator_chooses_walls_by_a_word_or_by_names() -> None:
    assert chosen("all") == ("all", frozenset(WALLS))
    assert chosen("required") == ("required", frozenset(WALLS))
    assert chosen("none") == ("none", frozenset())
    assert chosen("uid, seccomp") == ("all", frozenset({"uid", "seccomp"}))
    assert chosen("bubblewrap") == ("all", frozenset({"bubblewrap"}))
    for wrong, why in (
        ("", "'' is no"),
        ("al", "'al' is no"),
        ("uid,moat", "'moat' is no"),
        ("all,uid", "'all' stands"),
    ):
        with pytest.raises(ValueError, match=f"{why}.*: give all, required, none, or some of landlock"):
            chosen(wrong)


def test_only_commands_that_have_no_container_are_for_bubblewrap() -> None:
    survey = Survey("all", (Wall("bubblewrap", "up", ""),))
    command, kernel = (policy(kind, "cpu", Ceilings()) for kind in ("command", "kernel"))
    cell = Cell(survey, "tinyfleet-test-")
    assert cell.wraps(command)
    assert not cell.wraps(replace(command, container=True))
    assert not cell.wraps(kernel)
    assert not Cell(Survey("all", (Wall("bubblewrap", "missing", ""),)), "tinyfleet-test-").wraps(command)


def test_a_wall_that_stands_in_part_is_there_and_lacking() -> None:
    walls = (Wall("landlock", "partial", ""), Wall("uid", "up", ""), Wall("cgroup", "missing", ""))
    survey = Survey("all", walls)
    assert [survey.has(wall.name) for wall in walls] == [True, True, False]
    assert [wall.name for wall in survey.lacking()] == ["landlock", "cgroup"]


def test_landlock_says_what_an_older_kernel_leaves_open() -> None:
    assert "TCP" in landlock.gaps(3)
    assert "TCP" not in landlock.gaps(4)
    assert landlock.gaps(7) == ""


def test_the_first_closed_folder_on_the_way_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "open" / "shut" / "open" / "file"
    inner.mkdir(parents=True)
    for folder in inner.parents:
        if folder.is_relative_to(tmp_path):
            folder.chmod(0o711)
    before = closed([inner])
    inner.parents[1].chmod(0o700)
    # The folder for temporary files may itself be shut.
    assert closed([inner]) == (before or inner.parents[1])
    assert closed([Path("/usr/nowhere/at/all")]) is None


def test_a_slot_is_one_attempts_at_a_time(tmp_path: Path) -> None:
    held = Slot.lock(FIRST, tmp_path)
    with pytest.raises(NoSlot, match=str(FIRST)):
        Slot.lock(FIRST, tmp_path)
    other = Slot.lock(FIRST + 1, tmp_path)
    held.release()
    Slot.lock(FIRST, tmp_path).release()
    other.release()


def test_a_uid_that_somebody_has_is_no_attempts() -> None:
    assert inhabitant([("root", 0), ("nobody", 65534), ("user", 100_000)]) is None
    assert inhabitant([("root", 0), ("eve", FIRST + 5)]) == "eve"


def test_a_gpu_is_its_device_nodes(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert [path.name for path in gpu.nodes(1, tmp_path)] == ["nvidia1", "nvidiactl", "nvidia-uvm"]
    assert [path.name for path in gpu.own_nodes(1, tmp_path)] == ["nvidia1"]
    assert gpu.present(tmp_path) == [0, 1]
    assert gpu.present(tmp_path / "nowhere") == []


def test_whoever_has_a_device_node_open_holds_it() -> None:
    with open("/dev/full", "rb"):
        assert os.getpid() in gpu.holders([Path("/dev/full")])
    assert os.getpid() not in gpu.holders([Path("/dev/full")])


def test_a_gpu_that_is_held_is_not_free_unless_by_who_measures_it(tmp_path: Path) -> None:
    (tmp_path / "nvidia7").symlink_to("/dev/full")
    epilog = gpu.Epilog(7, None, lambda number: {"problem": ""}, devices=tmp_path)
    with open("/dev/full", "rb"):
        assert epilog.problem() == f"gpu7 is held by processes {os.getpid()}"
        assert replace(epilog, spared=lambda: frozenset({os.getpid()})).problem() == ""
    assert epilog.problem() == ""


def test_a_gpu_is_quarantined_for_a_wrong_answer() -> None:
    wrong = gpu.Epilog(99, None, lambda number: {"problem": f"{number} answers are wrong"})
    assert wrong.problem() == "gpu99: 99 answers are wrong"
    assert gpu.Epilog(99, None, lambda number: {"problem": ""}).problem() == ""


def test_a_gpu_is_quarantined_for_memory_that_is_not_given_back() -> None:
    used = gpu.Epilog(99, 1 << 30, lambda number: {"used": 2 << 30, "problem": ""})
    assert used.problem() == f"gpu99 has {2 << 30} bytes in use, {1 << 30} before the attempt"
    assert gpu.Epilog(99, 1 << 30, lambda number: {"used": 1 << 30, "problem": ""}).problem() == ""


def test_a_driver_that_hangs_or_crashes_takes_only_the_process_that_asks() -> None:
    def hang(_number: int) -> gpu.Answer:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.pause()
        return {}

    def crash(_number: int) -> gpu.Answer:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    assert gpu.Epilog(99, None, hang, within_s=0.05).problem() == "gpu99: no answer within 0.05 s"
    assert gpu.Epilog(99, None, crash).problem() == "gpu99: the process that asked it crashed"
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # nothing of them is left


def test_the_known_answers_are_those_of_the_chain_that_the_kernel_walks() -> None:
    right = known_answer.expected()
    for thread in (0, 1, 1023, 1024, known_answer.THREADS - 1):
        value = thread
        for _ in range(known_answer.ROUNDS):
            value = (value * 1664525 + 1013904223) % 2**32
        assert right[thread] == value ^ ((thread & 1023) + known_answer.ROUNDS)
    assert known_answer.wrong(right) == ""
    flipped = array("I", right)
    flipped[77] ^= 1 << 20
    assert known_answer.wrong(flipped).startswith(
        f"1 of {known_answer.THREADS} known answers are wrong (thread 77:"
    )


def test_without_a_driver_nothing_is_asked() -> None:
    if gpu.present():
        pytest.skip("an NVIDIA GPU is here; tests/gpu/walls.py asks it")
    assert gpu.examine(0) == {"used": None, "problem": ""}
    assert gpu.used_bytes(0) is None
