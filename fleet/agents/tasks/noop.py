"""Do nothing for a while: for trying the dispatch and for measuring it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fleet.agents.protocol import NoopSpec
from fleet.agents.tasks.context import Report, TaskContext


class ToldToFail(Exception):
    """The spec said so."""


def run(spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    """Print a line, wait `seconds`, fail if told to. Result: {"seconds"}."""
    wanted = NoopSpec.model_validate(spec)
    print(f"noop: {wanted.seconds:g} s", flush=True)
    report({"phase": "waiting", "seconds": wanted.seconds})
    time.sleep(wanted.seconds)
    if wanted.fail:
        raise ToldToFail("the spec says fail")
    return {"seconds": wanted.seconds}
