"""The measuring child survives nothing; the process that measures survives everything. Real compiled code."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.arena import PAGE, Arena
from engine.errors import DeviceError
from engine.isolate import Child, Code, Deadline, Died, Isolate
from engine.outcome import Outcome

SIZE = 1000
FLOAT = np.dtype(np.float32)
SOURCE = f"""
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>
#define KERNEL(name) void name(void *const *bufs, long first, long last)
#define OUT ((float *)bufs[0])
#define IN ((float *)bufs[1])
KERNEL(good) {{ for (int i = 0; i < {SIZE}; i++) OUT[i] = IN[i] * 2; }}
KERNEL(unwritten) {{ for (int i = 0; i < {SIZE} - 1; i++) OUT[i] = IN[i] * 2; }}
KERNEL(sleeps) {{ usleep(20000); good(bufs, first, last); }}
KERNEL(segfault) {{ *(volatile int *)8 = 1; }}
KERNEL(aborts) {{ abort(); }}
KERNEL(leaves) {{ exit(0); }}
KERNEL(loops) {{ for (;;) __asm__ volatile(""); }}
KERNEL(past) {{ for (int i = 0; i <= {SIZE}; i++) OUT[i] = IN[i] * 2; }}
KERNEL(before) {{ for (int i = -1; i < {SIZE}; i++) OUT[i] = 2; }}
KERNEL(far) {{ OUT[1 << 16] = 1; }}
KERNEL(corrupts) {{ good(bufs, first, last); IN[7] = 0; }}
KERNEL(reads_past) {{ for (int i = 0; i < {SIZE}; i++) OUT[i] = IN[i + 16]; }}
KERNEL(forks) {{ if (fork() == 0) for (;;) pause(); for (;;) __asm__ volatile(""); }}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("isolate")
    source, library = folder / "kernels.c", folder / "kernels.so"
    source.write_text(SOURCE)
    compiler = shutil.which("gcc") or shutil.which("clang")
    assert compiler
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-w", source, "-o", library], check=True)
    return library


@pytest.fixture(scope="module")
def isolate() -> Iterator[Isolate]:
    with Isolate() as found:
        yield found


def numbers() -> np.ndarray:
    return np.arange(SIZE, dtype=np.float32)


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena((FLOAT, (SIZE,)), [numbers()]) as found:
        yield found


@pytest.fixture
def tight() -> Iterator[Arena]:
    with Arena((FLOAT, (SIZE,)), [numbers()], flush=True) as found:
        yield found


def run(isolate: Isolate, library: Path, entry: str, arena: Arena, deadline_s: float = 5.0) -> Child:
    """Run one kernel in a fresh child; the child, still alive."""
    arena.poison()
    child = isolate.child()
    child.prepare("k", Code(library, entry), child.map(arena))
    child.run("k", deadline_s=deadline_s)
    return child


def died(isolate: Isolate, library: Path, entry: str, arena: Arena, deadline_s: float = 5.0) -> Died:
    with pytest.raises(Died) as caught:
        run(isolate, library, entry, arena, deadline_s)
    return caught.value


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    stop = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop, "waited too long"
        os.sched_yield()


def gone(pid: int) -> bool:
    try:
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]).split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_good_kernel_leaves_its_result_and_nothing_else(
    isolate: Isolate, library: Path, arena: Arena
) -> None:
    run(isolate, library, "good", arena).close()
    assert np.array_equal(arena.view(0), numbers() * 2)
    assert arena.damage() == ""


def test_one_child_runs_many_programs_and_times_each_run(
    isolate: Isolate, library: Path, arena: Arena
) -> None:
    child = run(isolate, library, "good", arena)
    found = child.run("k", runs=50, budget_s=5.0, deadline_s=1.0)
    assert len(found.times_s) == 50
    assert all(0 < t < 1 for t in found.times_s)
    assert len(child.run("k", runs=50, budget_s=5.0, stop_above_s=0.0, deadline_s=1.0).times_s) == 1
    child.close()


def test_a_run_that_gave_its_core_away_is_known(isolate: Isolate, library: Path, arena: Arena) -> None:
    child = run(isolate, library, "sleeps", arena)
    found = child.run("k", runs=3, budget_s=5.0, deadline_s=5.0)
    assert len(found.times_s) == 3
    assert found.calm_s == ()
    assert found.believed_s == found.times_s
    child.close()


def test_a_segfault_is_named_and_the_next_child_works(isolate: Isolate, library: Path, arena: Arena) -> None:
    error = died(isolate, library, "segfault", arena)
    assert error.outcome is Outcome.CRASHED
    assert "SIGSEGV" in error.detail
    run(isolate, library, "good", arena).close()
    assert np.array_equal(arena.view(0), numbers() * 2)


def test_an_abort_is_named(isolate: Isolate, library: Path, arena: Arena) -> None:
    assert "SIGABRT" in died(isolate, library, "aborts", arena).detail


def test_a_kernel_that_exits_quietly_has_crashed(isolate: Isolate, library: Path, arena: Arena) -> None:
    error = died(isolate, library, "leaves", arena)
    assert error.outcome is Outcome.CRASHED
    assert "exit status 0" in error.detail


def test_an_endless_kernel_is_killed_at_its_deadline(isolate: Isolate, library: Path, arena: Arena) -> None:
    error = died(isolate, library, "loops", arena, deadline_s=0.1)
    assert error.outcome is Outcome.HUNG


def test_a_process_the_kernel_forked_dies_with_it(isolate: Isolate, library: Path, arena: Arena) -> None:
    child = isolate.child()
    child.prepare("k", Code(library, "forks"), child.map(arena))
    with pytest.raises(Died):
        child.run("k", deadline_s=0.2)
    deadline = time.monotonic() + 10  # killed is not gone yet
    while members(child.pid) and time.monotonic() < deadline:
        pass
    assert members(child.pid) == []


def members(group: int) -> list[int]:
    """The processes of a group that still run."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(ProcessLookupError):  # some end while we look
                found += [int(place.name)] * (os.getpgid(int(place.name)) == group)
    return [pid for pid in found if not gone(pid)]


def test_writing_past_the_end_shows_in_the_canary(isolate: Isolate, library: Path, arena: Arena) -> None:
    run(isolate, library, "past", arena).close()
    assert "past the end of the output" in arena.damage()


def test_writing_before_the_start_shows_in_the_canary(isolate: Isolate, library: Path, arena: Arena) -> None:
    run(isolate, library, "before", arena).close()
    assert arena.damage() == "wrote 4 bytes before the start of the output"


def test_writing_far_away_hits_the_guard(isolate: Isolate, library: Path, arena: Arena) -> None:
    assert "SIGSEGV" in died(isolate, library, "far", arena).detail


def test_reading_past_an_input_hits_the_guard_when_it_ends_there(
    isolate: Isolate, library: Path, tight: Arena
) -> None:
    assert "SIGSEGV" in died(isolate, library, "reads_past", tight).detail


def test_a_changed_input_is_damage_and_can_be_repaired(isolate: Isolate, library: Path, arena: Arena) -> None:
    run(isolate, library, "corrupts", arena).close()
    assert arena.damage() == "input 0 was changed"
    arena.repair()
    assert arena.damage() == ""


def test_an_element_never_written_stays_poisoned(isolate: Isolate, library: Path, arena: Arena) -> None:
    run(isolate, library, "unwritten", arena).close()
    assert np.flatnonzero(np.isnan(arena.view(0))).tolist() == [SIZE - 1]


def test_a_private_copy_is_run_on_without_touching_the_arena(
    isolate: Isolate, library: Path, arena: Arena
) -> None:
    arena.poison()
    child = isolate.child()
    child.prepare("k", Code(library, "good"), child.map(arena, private=True))
    child.run("k", deadline_s=5.0)
    child.close()
    assert np.isnan(arena.view(0)).all()


def test_numpy_runs_a_named_program_on_the_same_buffers(isolate: Isolate) -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random((30, 40), np.float32), generator.random((40, 50), np.float32)
    with Arena((FLOAT, (30, 50)), [a, b]) as arena:
        child = isolate.child()
        child.prepare_numpy("n", "gemm", arena, child.map(arena))
        assert len(child.run("n", runs=3, budget_s=5.0, deadline_s=5.0).times_s) == 3
        child.close()
        assert np.allclose(arena.view(0), a @ b)


def test_a_library_that_is_not_there_is_an_error_and_not_a_death(isolate: Isolate, arena: Arena) -> None:
    child = isolate.child()
    with pytest.raises(DeviceError, match="cannot open shared object"):
        child.prepare("k", Code(Path("/nonexistent.so"), "k"), child.map(arena))
    child.close()


def test_a_starter_that_died_is_started_again(isolate: Isolate, library: Path, arena: Arena) -> None:
    child = isolate.child()
    starter = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(starter, signal.SIGKILL)
    wait_until(lambda: gone(child.pid))
    run(isolate, library, "good", arena).close()
    assert np.array_equal(arena.view(0), numbers() * 2)
    child.close()


def test_children_end_when_the_process_that_measures_is_killed(library: Path) -> None:
    script = (
        "import numpy as np, sys; from pathlib import Path\n"
        "from engine.isolate import Code, Isolate; from engine.arena import Arena\n"
        "isolate = Isolate(); child = isolate.child()\n"
        "arena = Arena((np.dtype('f4'), (1000,)), [np.zeros(1000, 'f4')])\n"
        "child.prepare('k', Code(Path(sys.argv[1]), 'loops'), child.map(arena))\n"
        "print(child.pid, flush=True); child.run('k', deadline_s=60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(library)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as caller:
        assert caller.stdout
        pid = int(caller.stdout.readline())
        assert not gone(pid)
        caller.kill()
    wait_until(lambda: gone(pid))


def test_a_child_nobody_stops_ends_itself_soon_after_its_deadline(library: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    talk, childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "engine.starter", str(theirs.fileno())]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=root), ours, theirs, talk, childs:
        socket.send_fds(ours, [b'{"do": "fork", "role": "measure"}'], [childs.fileno()])
        pid = json.loads(ours.recv(4096))["pid"]
        prepare = {"do": "prepare", "key": "k", "path": str(library), "entry": "loops"}
        talk.send(json.dumps({**prepare, "buffers": [], "tiles": 1}).encode())
        assert json.loads(talk.recv(4096)) == {}
        run = {"do": "run", "key": "k", "runs": 1, "budget_s": 0, "stop_above_s": 1}
        talk.send(json.dumps({**run, "deadline_s": 0.05}).encode())
        ours.settimeout(20)
        assert json.loads(ours.recv(4096)) == {"ended": pid, "code": -signal.SIGALRM}
        ours.shutdown(socket.SHUT_RDWR)


def test_buffers_keep_the_alignment_vectors_want_and_tight_ones_end_at_a_page(
    arena: Arena, tight: Arena
) -> None:
    assert all((r.at + r.offset) % 64 == 0 for r in arena.regions)
    assert all((r.at + r.offset + r.nbytes) % PAGE == 0 for r in tight.regions)


def test_an_empty_buffer_has_a_place() -> None:
    for flush in (False, True):
        with Arena((FLOAT, (0, 4)), [np.zeros((4, 0), np.float32)], flush=flush) as arena:
            assert arena.view(0).shape == (0, 4)
            assert arena.damage() == ""


def test_a_deadline_is_generous_to_short_runs_and_proportional_to_long_ones() -> None:
    deadline = Deadline(grace_s=0.5)
    assert deadline.seconds(1e-6) == pytest.approx(0.55)
    assert deadline.seconds(1.0) == pytest.approx(20.5)
