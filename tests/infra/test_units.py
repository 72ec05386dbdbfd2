"""The units for systemd, as far as systemd can judge them without running one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fleet.agents.root_access import Where
from fleet.agents.root_logins_unit import DROP_IN, UNIT, LoginsProblem, turn_off, turn_on
from tests.parts import need

UNITS = sorted((Path(__file__).parents[2] / "infra" / "systemd").glob("*.service"))
# Newer than the oldest systemd that the units are for, which passes over what it does not know.
NEWER = "Unknown key 'DelegateSubgroup'"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path, tmp_path: Path) -> None:
    analyze = need("systemd-analyze", install="systemd")
    # The program is not installed where this is tested.
    text = unit.read_text().replace("/opt/tinyfleet/current/bin/tinyfleet", need("env", install="coreutils"))
    text = text.replace("/usr/bin/python3", need("env", install="coreutils"))
    (tmp_path / unit.name).write_text(text)
    done = subprocess.run([analyze, "verify", tmp_path / unit.name], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if unit.name in line and NEWER not in line] == []


# What systemd says of each (0 is best, 10 worst): the agent leaves open what attempts, GPUs and LLVM need.
EXPOSURE = {"tinyfleet-agent.service": 4.0, "tinyfleet-root.service": 2.0}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_as_closed_as_it_was(unit: Path) -> None:
    analyze = need("systemd-analyze", install="systemd")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    overall = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert overall is not None, done.stderr
    print(overall[0])
    assert float(overall[1]) <= EXPOSURE[unit.name]


def test_the_agent_has_no_root_and_roots_part_no_network() -> None:
    agent, root = ((UNITS[0].parent / name).read_text().splitlines() for name in EXPOSURE)
    assert {"User=tinyfleet", "CapabilityBoundingSet=", "NoNewPrivileges=yes"} <= set(agent)
    assert {"PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "ProtectSystem=strict"} <= set(root)


def test_a_unit_with_a_mistake_is_found(tmp_path: Path) -> None:
    analyze = need("systemd-analyze", install="systemd")
    (tmp_path / "wrong.service").write_text("[Service]\nExecStart=/nowhere/to/be/found\nRestart=perhaps\n")
    done = subprocess.run([analyze, "verify", tmp_path / "wrong.service"], capture_output=True, text=True)
    assert "wrong.service" in done.stderr


def test_with_logins_roots_part_is_opened_as_far_as_they_need_it_and_no_further(tmp_path: Path) -> None:
    analyze = need("systemd-analyze", install="systemd")
    unit = (UNITS[0].parent / "tinyfleet-root.service").read_text()
    (tmp_path / "tinyfleet-root.service").write_text(
        unit.replace("/usr/bin/python3", need("env", install="coreutils"))
    )
    folder = tmp_path / "tinyfleet-root.service.d"
    folder.mkdir()
    (folder / "logins.conf").write_text(DROP_IN)
    done = subprocess.run(
        [analyze, "verify", tmp_path / "tinyfleet-root.service"], capture_output=True, text=True
    )
    assert [line for line in done.stderr.splitlines() if "tinyfleet-root" in line] == []
    assert "ProtectSystem=" not in DROP_IN
    assert "NoNewPrivileges=" not in DROP_IN


def test_logins_are_turned_on_and_off_without_touching_what_others_wrote(tmp_path: Path) -> None:
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/sshd").touch()
    with pytest.raises(LoginsProblem, match="not installed"):
        turn_on(tmp_path, "")
    settings = tmp_path / "etc/tinyfleet/local.env"
    settings.parent.mkdir(parents=True)
    settings.write_text("TINYFLEET_WALLS=all\n")
    assert turn_on(tmp_path, "tiny3.lab.internal") == [tmp_path / UNIT, settings]
    assert turn_on(tmp_path, "tiny3.lab.internal") == []
    assert settings.read_text().splitlines() == [
        "TINYFLEET_WALLS=all",
        "TINYFLEET_SSH=on",
        "TINYFLEET_SSH_ADDRESS=tiny3.lab.internal",
    ]
    with pytest.raises(LoginsProblem, match="--address"):
        turn_on(tmp_path, "x\nUser=root")
    nobody = Where(folder=tmp_path / "nothing")
    assert turn_off(tmp_path, nobody) == [tmp_path / UNIT, settings]
    assert settings.read_text() == "TINYFLEET_WALLS=all\n"
