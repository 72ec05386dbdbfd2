"""A function in a process of its own, that may change what it is and end as it likes. Needs Python alone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any


def in_fork(act: Callable[[], dict[str, Any]], deadline_s: int = 0) -> dict[str, Any]:
    """What `act` returns in a fork, or {"error"}: of what it raised, or that it ended without a word."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(deadline_s)
        try:
            found = act()
        except BaseException as error:  # noqa: BLE001 - the top of a process
            found = {"error": f"{type(error).__name__}: {error}"}
        os.write(write, json.dumps(found).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return dict(json.loads(said)) if said else {"error": "it ended without a word"}
