"""What the doctor says of probes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet.agents.doctor_probes import examine_probes, findings
from tests.fleet.agents.probes import box
from tests.whole import ROOT


def looked(root: Path, config: str = "") -> dict[str, Any]:
    """What the probes' own process says of a machine made of files."""
    (root / "telemetry.toml").write_text(config)
    command = [sys.executable, "-m", "fleet.agents.probes", "--root", str(root), "--patience", "3"]
    command += ["--config", str(root / "telemetry.toml"), "--state", str(root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_box_is_looked_over_probe_by_probe(tmp_path: Path) -> None:
    box.host(tmp_path)
    for index in range(3):
        box.radeon(tmp_path, index)
    broken = tmp_path / "sys/bus/pci/devices/0000:43:00.0"
    (broken / "driver").unlink()
    found = {each.subject: each for each in findings(looked(tmp_path, "[redfsh]"))}
    assert found["gpu 0000:03:00.0"].found == "amd, driver amdgpu"
    assert (found["gpu 0000:43:00.0"].verdict, found["gpu 0000:43:00.0"].found) == (
        "weak",
        "amd, no driver has it",
    )
    assert found["probe amdgpu"].verdict == "ok"
    assert found["probe amdgpu"].found.endswith("series of card0, card1, card2")
    assert found["probe host"].verdict == "ok"
    assert "the file has 'redfsh'" in found["telemetry file"].found
    assert {"nvml", "ipmi", "drives", "instinct"} <= set(
        found["other probes"].found.split(": ")[1].split(", ")
    )
    assert not [each for each in found.values() if each.verdict == "missing"], "telemetry stops no work"


@pytest.mark.slow
def test_a_probe_that_hangs_is_said_to(tmp_path: Path) -> None:
    box.host(tmp_path)
    card = box.radeon(tmp_path, 0)
    (card / "gpu_busy_percent").unlink()
    os.mkfifo(card / "gpu_busy_percent")
    found = {each.subject: each for each in findings(looked(tmp_path))}
    assert (found["probe amdgpu"].verdict, found["probe amdgpu"].found) == ("weak", "card0: hangs")
    assert found["probe host"].verdict == "ok"


def test_this_machine_can_be_looked_over(tmp_path: Path) -> None:
    found = {each.subject: each.verdict for each in examine_probes(tmp_path)}
    assert found["probe host"] == "ok"
    assert "telemetry" not in found
