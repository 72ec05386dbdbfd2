"""In the task's own process: call the task, and record its result or what went wrong, for the supervisor to find."""

from __future__ import annotations

import errno
import json
import traceback
from pathlib import Path
from typing import Any

from engine.errors import InvalidGraph
from fleet.agents.attempts import PROGRESS, RESULT, Assignment
from fleet.agents.durable import write_json
from fleet.agents.hints import hint
from fleet.agents.processes import clock
from fleet.agents.protocol import Outcome
from fleet.agents.tasks.context import Failed, TaskContext, Tasks

_MOST_INLINE = 64 * 1024
_REPORT_EVERY_S = 0.1
# The machine's fault, not the job's: elsewhere it may work.
_MACHINE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)


def execute(directory: Path, tasks: Tasks, cache: Path) -> None:
    """Run the task of the attempt in `directory` and write its result.json."""
    assignment = Assignment.load(directory)
    if assignment is None:
        return
    spec = assignment.attempt.spec.model_dump(mode="json", by_alias=True)
    context = TaskContext(cache=cache, renderer_factory=tasks.renderer_factory)
    try:
        result = tasks.by_kind[spec["kind"]](spec, directory / "work", Reporter(directory), context)
        document = {"outcome": Outcome.SUCCEEDED, "result": _inline(result, directory)}
    except Failed as failed:
        result = _inline(failed.result, directory)
        document = {"outcome": Outcome.FAILED, "error": str(failed)[:8000], "result": result}
    except Exception as error:  # noqa: BLE001 - the top of the task: whatever it raised is its outcome
        traceback.print_exc()
        document = {"outcome": outcome_of(error), "error": f"{type(error).__name__}: {error}"[:8000]}
    write_json(directory / RESULT, document)


def outcome_of(error: Exception) -> Outcome:
    """Whose problem an error is: the spec's, the machine's or the job's."""
    if isinstance(error, InvalidGraph):
        return Outcome.INVALID
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return Outcome.INFRA_FAILED
    return Outcome.FAILED


def _inline(result: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The result itself when it is small, else the name of the artifact that holds it."""
    text = json.dumps(result, allow_nan=False)
    if len(text) <= _MOST_INLINE:
        return result
    (directory / "work" / "artifacts" / "result.json").write_text(text)
    return {"artifact": "result.json"}


class Reporter:
    """Records progress for the agent to find. Reports that come too fast are dropped, so that a task may report freely."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._next = 0.0

    def __call__(self, progress: dict[str, Any]) -> None:
        """Record `progress`, a small JSON object; each replaces the last."""
        if clock() < self._next:
            return
        self._next = clock() + _REPORT_EVERY_S
        write_json(self._directory / PROGRESS, progress, durable=False)
        hint(self._directory.parent.parent)
