"""`python3 tests/gpu/controllers.py`, as root: limits of all processes of an attempt together. Needs Python alone.

For a machine whose control groups are of version 2 with the controllers memory and pids, which not every one has. Makes the
groups that systemd makes for a unit with Delegate= and DelegateSubgroup=agent, and attempts in them that want too much.
Exit status 1 when anything is not as it should be.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fleet.agents.walls.groups import CONTROLLERS, mount_of, own_group
from fleet.agents.walls.machine import survey
from fleet.agents.walls.policy import Ceilings
from tests.gpu.walls import inside

MIB = 1 << 20


@contextmanager
def delegated() -> Iterator[None]:
    """This process as the agent of a unit whose group is its own to divide."""
    mount, home = mount_of(Path("/proc/self/mountinfo").read_text()), own_group()
    if mount is None or home is None:
        sys.exit("no control groups of version 2 here")
    unit = mount / "tinyfleet-check"
    agent = unit / "agent"
    agent.mkdir(parents=True)
    for group in (mount, unit):
        for name in CONTROLLERS:
            (group / "cgroup.subtree_control").write_text(f"+{name}")
    (agent / "cgroup.procs").write_text("0")
    try:
        yield
    finally:
        (home / "cgroup.procs").write_text("0")
        agent.rmdir()
        unit.rmdir()


def take(pieces: int) -> dict[str, Any]:
    """As many processes as pieces of 64 MiB; how many of them live when each has filled its own."""
    pids = []
    for _ in range(pieces):
        pid = os.fork()
        if pid == 0:
            memory = mmap.mmap(-1, 64 * MIB)
            for offset in range(0, len(memory), 4096):
                memory[offset] = 1
            signal.pause()
        pids.append(pid)
    give_up = time.monotonic() + 5
    ended: list[int] = []
    while time.monotonic() < give_up and not ended:
        ended = [pid for pid in pids if os.waitpid(pid, os.WNOHANG) != (0, 0)]
        time.sleep(0.05)
    return {"alive": len(pids) - len(ended)}


def breed(most: int) -> dict[str, Any]:
    """Forks until it is refused; none of them ends by itself, and each leaves its session."""
    for number in range(most):
        try:
            pid = os.fork()
        except OSError as error:
            return {"forks": number, "refused": error.strerror}
        if pid == 0:
            os.setsid()
            signal.pause()
    return {"forks": most}


def main() -> int:
    """Try everything; 1 when something is not as it should be."""
    state = Path(tempfile.mkdtemp(prefix="state-"))
    state.chmod(0o711)
    with delegated():
        every, only = survey(state, "all"), survey(state, "cgroup,memory")
        for wall in every.walls:
            print(f"wall {wall.name:<12}{wall.state:<9}{wall.detail}")
        small = Ceilings(memory_bytes=512 * MIB)
        fits = inside(state, every, None, lambda: take(4), small)
        much = inside(state, every, None, lambda: take(16), small)
        few = inside(state, only, None, lambda: breed(200), Ceilings(processes=50))
        many = inside(state, only, None, lambda: breed(200), Ceilings(processes=4096))
    checks = [
        ("the wall is up", {"memory": every.state("memory")}, every.state("memory") == "up"),
        ("4 processes of 64 MiB live within 512 MiB", fits, fits == {"alive": 4}),
        ("16 do not, and the kernel ends one", much, bool(much.get("killed"))),
        ("of 200 forks a limit of 50 lets 49 be, by the group alone", few, few.get("forks") == 49),
        ("a higher limit lets all be, and none is left afterwards", many, many == {"forks": 200}),
    ]
    for name, found, good in checks:
        print(f"{'ok  ' if good else 'BAD '} {name}: {json.dumps(found)}")
    return 0 if all(good for _, _, good in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
