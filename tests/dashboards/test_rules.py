"""The rules for Prometheus, by Prometheus' own tools: each alert fires for what is bad and for nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from fleet.command import VERBS, app
from tests.parts import need
from tests.whole import ROOT

RULES = ROOT / "dashboards" / "rules"
TESTS = sorted((RULES / "tests").glob("*.yml"))
DOCUMENT: dict[str, Any] = yaml.safe_load((RULES / "alerts.yml").read_text())
ALERTS: list[dict[str, Any]] = [rule for group in DOCUMENT["groups"] for rule in group["rules"]]
NAMES = sorted({alert["alert"] for alert in ALERTS})
# What the design promises; NodeClockSkew and ControlPlaneDown are ours besides.
PROMISED = (
    "NodeAgentDown TelemetryStale CollectorHung GpuMissing GpuDriverGone GpuXidCritical GpuRecoveryNeeded "
    "GpuUncorrectedEcc GpuRowRemapFailed GpuHwThermal GpuPowerBrake GpuPowerLimitDrift GpuLinkDegradedUnderLoad "
    "PcieAerBurst DriveGone DriveMediaErrors DriveSpareLow DriveWearFast DriveThrottling RaidDegraded "
    "NodePowerMismatch RackOverBudget FeedPhaseImbalance CoverageLow ScheduledJobFailing SearchQuarantineBurst "
    "QueueStuck"
)
RUNBOOKS = (RULES / "runbooks.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOKS, flags=re.MULTILINE | re.DOTALL))


def run(*command: str | Path, at: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A tool's run."""
    program = need(str(command[0]), install="prometheus prometheus-alertmanager")
    return subprocess.run([program, *command[1:]], capture_output=True, text=True, cwd=at, check=False)


@pytest.fixture
def laid_out(tmp_path: Path) -> Path:
    """Configuration, rules and token as docs/monitoring.md lays them out."""
    shutil.copytree(RULES, tmp_path / "rules")
    shutil.copy(ROOT / "infra" / "prometheus.yml", tmp_path)
    (tmp_path / "tinyfleet-token").write_text("tfs_none")
    return tmp_path


def test_the_example_configuration_is_one_that_prometheus_takes(laid_out: Path) -> None:
    done = run("promtool", "check", "config", "prometheus.yml", at=laid_out)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_ones_that_prometheus_takes() -> None:
    done = run("promtool", "check", "rules", RULES / "alerts.yml", RULES / "recording.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_promised_alert_is_there() -> None:
    assert set(PROMISED.split()) - set(NAMES) == set()


@pytest.mark.slow
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_each_alert_fires_for_what_is_bad_and_for_nothing_else(path: Path) -> None:
    done = run("promtool", "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def expectations(name: str) -> Iterator[bool]:
    """Whether each expectation about an alert wants it to fire."""
    for path in TESTS:
        for each in yaml.safe_load(path.read_text())["tests"]:
            for expected in each["promql_expr_test"]:
                if f'alertname="{name}"' in expected["expr"]:
                    yield bool(expected["exp_samples"])


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_has_a_test_of_its_firing_and_of_its_silence(name: str) -> None:
    assert set(expectations(name)) == {True, False}


@pytest.mark.slow
def test_the_tests_notice_each_alert_that_never_fires(laid_out: Path) -> None:
    changed = yaml.safe_load((RULES / "alerts.yml").read_text())
    for alert in (rule for group in changed["groups"] for rule in group["rules"]):
        alert["expr"] = f"({alert['expr']}) and on () vector(1) == 0"
    (laid_out / "rules" / "alerts.yml").write_text(yaml.safe_dump(changed))
    done = run("promtool", "test", "rules", *(f"rules/tests/{path.name}" for path in TESTS), at=laid_out)
    assert done.returncode != 0
    said = (done.stdout + done.stderr).replace("\\", "")
    assert {name for name in NAMES if f'alertname="{name}"' not in said} == set()


def test_each_alert_says_what_why_and_where_the_steps_are() -> None:
    for alert in ALERTS:
        said = alert["annotations"]
        assert said["summary"], alert["alert"]
        assert said["description"], alert["alert"]
        assert said["runbook"] == f"runbooks.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in ("critical", "warning", "info")


def test_each_runbook_has_an_action_that_answers_it_and_no_alert_is_without_one() -> None:
    assert set(SECTIONS) == set(NAMES)
    for name, section in SECTIONS.items():
        assert re.search(r"`tinyfleet |`(?:GET|PUT|POST) /", section), name


def verbs() -> dict[str, set[str]]:
    """The options of every verb of the command, by its words."""
    root = get_command(app)
    found = {}
    for name in (name for group in VERBS.values() for name in group):
        _, verb, _ = root.resolve_command(None, [name])  # type: ignore[attr-defined,arg-type]
        below = getattr(verb, "commands", None)
        named = {name: verb} if below is None else {f"{name} {each}": one for each, one in below.items()}
        found |= {
            words: {option for each in one.params for option in each.opts} for words, one in named.items()
        }
    return found


def test_every_command_of_a_runbook_an_alert_or_the_documentation_is_there() -> None:
    known = verbs()
    places = [RULES / "alerts.yml", ROOT / "docs" / "monitoring.md", ROOT / "infra" / "prometheus.yml"]
    text = RUNBOOKS + "".join(path.read_text(encoding="utf-8") for path in places)
    used = re.findall(r"tinyfleet ([a-z-]+(?: [a-z-]+)?)((?:[^`\n]|\n  (?! ))*)", text)
    assert len(used) > 20
    for words, rest in used:
        verb = words if words in known else words.split()[0]
        assert verb in known, words
        assert set(re.findall(r"--[a-z-]+", rest)) <= known[verb], (words, rest)


def test_alertmanager_takes_its_example_and_wakes_people_for_what_is_critical() -> None:
    config = ROOT / "infra" / "alertmanager.yml"
    done = run("amtool", "check-config", config)
    assert done.returncode == 0, done.stdout + done.stderr
    for severity, receiver in (("critical", "now"), ("warning", "morning"), ("info", "nobody")):
        routed = run("amtool", "config", "routes", "test", f"--config.file={config}", f"severity={severity}")
        assert routed.stdout.strip() == receiver
