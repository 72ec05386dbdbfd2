"""One batch of a search: compile all candidates, verify each, then time the right ones alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.search import measure
from engine.store import Store
from engine.toolchain import detect
from fleet.agents.protocol import MeasureSpec
from fleet.agents.tasks.context import Report, TaskContext
from fleet.agents.tasks.definition import candidates, definition
from fleet.agents.tasks.results import measured


def run(spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    """Result: protocol.MeasureResult, in the candidates' order. Artifact: candidates.json, their sources."""
    wanted = MeasureSpec.model_validate(spec)
    kernel, target = definition(wanted.kernel, workdir), detect()
    found = measure(
        kernel,
        candidates(wanted.candidates),
        target,
        store=Store(context.cache / "store"),
        threads=wanted.threads,
        bound_s=wanted.bound_s,
        budget_s=wanted.budget_s,
        seed=wanted.seed,
        renderer=context.renderer(target),
        report=report,
    )
    return measured(kernel, target, found, workdir)
