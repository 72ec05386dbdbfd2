"""The end of a search: the finalists at full shape with another seed, timed in turns; best first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.search import confirm
from engine.store import Store
from engine.toolchain import detect
from fleet.agents.protocol import ConfirmSpec
from fleet.agents.tasks.context import Report, TaskContext
from fleet.agents.tasks.definition import candidates, definition
from fleet.agents.tasks.results import measured


def run(spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    """Result: protocol.MeasureResult, best first, failed ones last. Artifact: candidates.json, their sources."""
    wanted = ConfirmSpec.model_validate(spec)
    kernel, target = definition(wanted.kernel, workdir), detect()
    found = confirm(
        kernel,
        candidates(wanted.candidates),
        target,
        store=Store(context.cache / "store"),
        threads=wanted.threads,
        seed=wanted.seed,
        renderer=context.renderer(target),
        report=report,
    )
    return measured(kernel, target, found, workdir)
