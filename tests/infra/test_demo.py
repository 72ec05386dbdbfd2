"""What the demo tells of its figures."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from infra import demo


def rows(heuristic: float, found: float) -> list[dict[str, Any]]:
    speeds = {"none": 2.0, "heuristic": heuristic, "numpy": 150.0, "schedule": found}
    return [{"name": name, "gflops": v, "max_error": 1e-5, "tolerance": 1e-4} for name, v in speeds.items()]


@pytest.mark.parametrize(
    ("found", "tied"), [(100.0, True), (98.1, True), (101.9, True), (97.0, False), (103.0, False)]
)
def test_a_schedule_as_fast_as_the_heuristics_is_called_noise_below_the_table(
    found: float, tied: bool
) -> None:
    file = io.StringIO()
    stage = demo.Stage(Path(), Console(file=file, width=80))
    tuned: Any = SimpleNamespace(schedule=[])
    demo.show_comparison(stage, rows(100.0, found), tuned)
    assert ("within 2 % of the heuristic's schedule: noise" in file.getvalue()) == tied
