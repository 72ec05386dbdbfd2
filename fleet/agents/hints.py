"""Look now: a FIFO in the state directory that wakes the agent. A hint carries no data, so losing one loses time only."""

from __future__ import annotations

import os
import select
from pathlib import Path

_NAME = "hint"


class Hints:
    """The agent's end: sleeps until a hint or a deadline."""

    def __init__(self, state: Path) -> None:
        path = state / _NAME
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        self._state = state
        # Open for writing as well: without a writer a FIFO reads as ended.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, timeout_s: float) -> bool:
        """Sleep until hinted or for `timeout_s`; whether it was a hint."""
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, timeout_s))
        if ready:
            os.read(self._descriptor, 65536)
        return bool(ready)

    def hint(self) -> None:
        """Wake the agent, from any thread or a signal handler."""
        hint(self._state)

    def close(self) -> None:
        """Stop listening."""
        os.close(self._descriptor)


def hint(state: Path) -> None:
    """Wake the agent of a state directory if one is there, from any process."""
    try:
        descriptor = os.open(state / _NAME, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no agent listens: the next one will look anyway
        return
    try:
        os.write(descriptor, b"\0")
    except OSError:  # full: it is awake already
        pass
    finally:
        os.close(descriptor)
