"""`python -m tests.attacks.unprivileged UID STATE COMMAND …`: run an agent as a user that is not root; root only.

The user gets a way to Python and to this tree, which may lie in root's home.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fleet.agents.walls.machine import needed
from fleet.agents.walls.ways import open_ways

ROOT = Path(__file__).resolve().parents[2]


def main(uid: int, state: Path, command: list[str]) -> None:
    open_ways([*needed(state), ROOT / "tests"])
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.chdir(ROOT)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
