"""In the task's own process: call the task, and say its result or what went wrong to the supervisor."""

from __future__ import annotations

import errno
import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import InvalidGraph
from fleet.agents.attempts import Assignment
from fleet.agents.processes import clock
from fleet.agents.protocol import Outcome
from fleet.agents.reports import Voice
from fleet.agents.tasks.command import surroundings
from fleet.agents.tasks.context import Failed, TaskContext, Tasks
from fleet.agents.walls.bubblewrap import Enclosure
from fleet.agents.walls.policy import policy

_MOST_INLINE = 64 * 1024
_REPORT_EVERY_S = 0.1
# The machine's fault, not the job's: elsewhere it may work.
_MACHINE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)


def execute(
    assignment: Assignment,
    tasks: Tasks,
    work: Path,
    cache: Path,
    voice: Voice,
    secrets: Mapping[str, str] | None = None,
    enclosure: Enclosure | None = None,
) -> None:
    """Run the task of an attempt in the folder `work` and say how it ended. `secrets`: variable → value; `enclosure`: where
    it executes its program."""
    spec = assignment.attempt.spec.model_dump(mode="json", by_alias=True)
    told = assignment.attempt
    context = TaskContext(
        cache=cache,
        renderer_factory=tasks.renderer_factory,
        surroundings=surroundings(told, work),
        secrets=secrets or {},
        enclosure=enclosure,
        gpus=policy(spec["kind"], told.device, assignment.limits.ceilings, told.gpus).gpus,
    )
    try:
        result = tasks.by_kind[spec["kind"]](spec, work, Reporter(voice), context)
        document = {"outcome": Outcome.SUCCEEDED, "result": _inline(result, work)}
    except Failed as failed:
        result = _inline(failed.result, work)
        document = {"outcome": Outcome.FAILED, "error": _short(failed), "result": result}
    except Exception as error:  # noqa: BLE001 - the top of the task: whatever it raised is its outcome
        traceback.print_exc()
        document = {"outcome": outcome_of(error), "error": f"{type(error).__name__}: {_short(error)}"}
    voice.result(document)


def _short(error: Exception) -> str:
    """Its message, as text that can be written down."""
    return str(error)[:8000].encode(errors="backslashreplace").decode()


def outcome_of(error: Exception) -> Outcome:
    """Whose problem an error is: the spec's, the machine's or the job's."""
    if isinstance(error, InvalidGraph):
        return Outcome.INVALID
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return Outcome.INFRA_FAILED
    return Outcome.FAILED


def _inline(result: dict[str, Any], work: Path) -> dict[str, Any]:
    """The result itself when it is small, else the name of the artifact that holds it."""
    text = json.dumps(result, allow_nan=False)
    if len(text) <= _MOST_INLINE:
        return result
    (work / "artifacts" / "result.json").write_text(text)
    return {"artifact": "result.json"}


class Reporter:
    """Says how far the task is. Reports that come too fast are dropped, so that a task may report freely."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._next = 0.0

    def __call__(self, progress: dict[str, Any]) -> None:
        """Say `progress`, a small JSON object; each replaces the last."""
        if clock() < self._next:
            return
        self._next = clock() + _REPORT_EVERY_S
        self._voice.progress(progress)
