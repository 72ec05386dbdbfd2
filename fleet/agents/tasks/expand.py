"""One step of a search that needs no device: the surviving schedules' neighbours, best model score first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.opts import schedule_to_json
from engine.programs import cost
from engine.search import expand
from engine.serialize import kernel_hash, kernel_text
from engine.toolchain import detect
from fleet.agents.protocol import CandidateRef, ExpandResult, ExpandSpec
from fleet.agents.tasks.context import Report, TaskContext
from fleet.agents.tasks.definition import definition, schedules


def run(spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    """Result: protocol.ExpandResult. Artifact: kernel.json, the kernel's canonical text."""
    wanted = ExpandSpec.model_validate(spec)
    kernel = definition(wanted.kernel, workdir)
    (workdir / "artifacts" / "kernel.json").write_text(kernel_text(kernel))
    survivors = schedules(wanted.survivors, "survivors")
    report({"phase": "expand", "survivors": len(survivors)})
    found = expand(kernel, survivors, frozenset(wanted.seen), wanted.limit, detect(), wanted.threads)
    least = cost(kernel)
    return ExpandResult(
        kernel_hash=kernel_hash(kernel),
        flops=least.flops,
        bytes=least.bytes,
        candidates=[
            CandidateRef(hash=item.hash, schedule=schedule_to_json(item.schedule), score=item.score)
            for item in found.candidates
        ],
        generated=found.generated,
        illegal=found.illegal,
        duplicate=found.duplicate,
    ).model_dump(mode="json")
