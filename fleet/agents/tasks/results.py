"""From what the engine found to what the wire says."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.kernel import Kernel
from engine.opts import schedule_to_json
from engine.outcome import Measured
from engine.serialize import kernel_hash
from engine.target import Target
from fleet.agents.protocol import CandidateOutcome, CandidateResult, MeasureResult


def measured(kernel: Kernel, target: Target, found: Sequence[Measured], workdir: Path) -> dict[str, Any]:
    """A batch's result; the sources go to the artifact candidates.json."""
    write_sources(workdir / "artifacts" / "candidates.json", found)
    results = [candidate_result(item) for item in found]
    result = MeasureResult(kernel_hash=kernel_hash(kernel), target_id=target.id, results=results)
    return result.model_dump(mode="json")


def candidate_result(item: Measured) -> CandidateResult:
    """One candidate's outcome. Errors that are no finite number (an output of NaN) are left out: JSON has none."""
    return CandidateResult(
        hash=item.hash,
        schedule=schedule_to_json(item.schedule),
        outcome=CandidateOutcome(item.outcome.value),
        time_s=item.time_s,
        times_s=list(item.times_s[:64]),
        source_hash=item.source_hash,
        max_error=finite(item.max_error),
        tolerance=finite(item.tolerance),
        detail=item.detail[:2000],
    )


def finite(value: float | None) -> float | None:
    """The value, or None where JSON has no word for it."""
    return value if value is not None and math.isfinite(value) else None


def write_sources(path: Path, found: Sequence[Measured]) -> None:
    """{source hash: C source} of all candidates that came as far as having one, and their outcomes by hash."""
    document: dict[str, Any] = {item.source_hash: item.source for item in found if item.source_hash}
    document["outcomes"] = {item.hash: item.outcome.value for item in found}
    path.write_text(json.dumps(document))
