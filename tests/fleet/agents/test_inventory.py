"""What a node says it has, and `node doctor`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.agents.cli import app
from fleet.agents.doctor import Finding, device_finding, examine, usable, wall_finding
from fleet.agents.inventory import (
    ProbeFailed,
    cores,
    cpu_model,
    inventory,
    memory_bytes,
    probe_target,
    probe_walls,
)
from fleet.agents.protocol import DeviceReport, Inventory, canonical_hash
from fleet.agents.walls.policy import WALLS


def test_the_inventory_describes_this_machine(tmp_path: Path) -> None:
    found = inventory(tmp_path)
    assert Inventory.model_validate_json(found.model_dump_json()) == found
    assert found.cores == cores() >= 1
    assert found.memory_bytes > 1 << 28
    (device,) = found.devices
    assert (device.name, device.kind, device.slots) == ("cpu", "cpu", found.cores)
    assert bool(device.problem) != bool(device.target_id)
    if device.target:
        assert device.target_id == canonical_hash(device.target)
    assert [wall.name for wall in found.walls] == list(WALLS)


def test_walls_that_an_operator_refuses_are_off_and_none_is_left_out(tmp_path: Path) -> None:
    assert {wall["state"] for wall in probe_walls(tmp_path, "none")} == {"off"}
    found = {wall["name"]: wall["state"] for wall in probe_walls(tmp_path, "limits,rights")}
    assert [name for name, state in found.items() if state != "off"] == ["rights", "limits"]


def test_walls_that_cannot_be_tried_are_missing(tmp_path: Path) -> None:
    (found,) = probe_walls(tmp_path, "no such wall")
    assert found["state"] == "missing"
    assert "no such wall" in found["detail"]


def test_names_and_sizes_are_read_from_proc() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n") == "Some CPU @ 2 GHz"
    assert cpu_model("processor : 0\nModel : Raspberry Pi 5\n") == "Raspberry Pi 5"
    assert cpu_model("processor : 0\n") != ""
    assert memory_bytes("MemTotal:       1024 kB\nMemFree: 1 kB\n") == 1 << 20
    assert memory_bytes("") == 0


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise SystemExit('no compiler: install clang or gcc')", "install clang or gcc"),
        ("print('hello')", "is not JSON"),
        ("print('{}')", "has no arch"),
        ("""print('{"arch": "a", "id": "b"}')""", "calls this target b"),
        ("raise SystemExit(3)", "exit status 3"),
    ],
)
def test_a_probe_that_fails_says_what_it_printed(program: str, message: str) -> None:
    with pytest.raises(ProbeFailed, match=message):
        probe_target((sys.executable, "-c", program))


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    return examine(tmp_path_factory.mktemp("state") / "not" / "there")


def test_the_doctor_examines_everything_and_offers_a_fix_for_what_is_not_well(
    findings: list[Finding],
) -> None:
    subjects = [finding.subject for finding in findings]
    walls = [f"wall {name}" for name in WALLS]
    machine = ["device cpu", "compiler", "python", "memory", "disk", "/dev/shm", *walls, "containers"]
    assert subjects[: len(machine)] == machine
    assert {"sudo", "passwords", "open servers", "clock", "state folder"} <= set(subjects[len(machine) :])
    assert all(finding.fix for finding in findings if finding.verdict != "ok")


def test_a_node_without_a_c_compiler_is_usable_and_told_what_would_be_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.subject: finding for finding in examine(tmp_path)}
    assert found["device cpu"].verdict == "ok"
    assert found["compiler"].verdict == "weak"
    assert "clang" in found["compiler"].fix
    broken = DeviceReport(name="cpu", kind="cpu", model="", arch="x86_64", problem="no CPU")
    assert device_finding(broken).verdict == "missing"


def test_a_missing_wall_is_a_weakness_with_a_fix() -> None:
    wall = {"name": "uid", "state": "missing", "detail": "not root", "fix": "run the agent as root"}
    assert wall_finding(wall) == Finding("wall uid", "weak", "missing: not root", "run the agent as root")


def test_a_node_without_a_device_is_not_usable() -> None:
    assert usable([Finding("device cpu", "ok", ""), Finding("landlock", "weak", "")])
    assert not usable([Finding("device cpu", "missing", "no compiler", "install one")])


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_the_doctors_exit_code_says_whether_a_device_is_usable(
    tmp_path: Path, findings: list[Finding], arguments: list[str]
) -> None:
    expected = usable(findings)
    outcome = CliRunner().invoke(app, ["node", "doctor", "--state", str(tmp_path), *arguments])
    assert outcome.exit_code == (0 if expected else 1)
    if arguments:
        assert json.loads(outcome.stdout)["usable"] is expected
    else:
        assert "landlock" in outcome.stdout


def test_an_agent_without_a_token_says_what_to_give_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TINYFLEET_JOIN_TOKEN", raising=False)
    arguments = ["agent", "--server", "http://127.0.0.1:9", "--state", str(tmp_path), "--name", "tiny1"]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 2
    assert "--join-token-file" in outcome.stderr
