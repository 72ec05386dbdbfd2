from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet import expositions, health, readings
from fleet.agents.families import FAMILIES
from fleet.agents.protocol import AttemptSpec, KernelRef, KernelSpec, NoopSpec, Outcome
from fleet.health import Action, Verdict
from fleet.simulation import cli
from fleet.simulation.boxes import BOXES
from fleet.simulation.crowd import FaultFile, Wanted, budget_watts, spot
from fleet.simulation.exposed import Exposed
from fleet.simulation.faults import Active, BadFault, Fault, FaultKind, parse_all
from fleet.simulation.hardware import SimulatedBox
from fleet.simulation.work import Work

START = 1_800_000_000.0


def lived(name: str = "h200x8", faults: str = "", seconds: float = 600.0) -> SimulatedBox:
    """A box after some time with faults (`KIND:DEVICE`)."""
    found = SimulatedBox(BOXES[name], "seed", START, load=1.0)
    active = Active(parse_all(faults))
    for step in range(int(seconds / 10) + 1):
        found.advance(START + 10.0 * step, (), active)
    return found


def text_of(hardware: SimulatedBox) -> str:
    """Its exposition, checked as the server checks it."""
    return expositions.check(Exposed(hardware, "SIM").text({}).encode())


def samples(text: str, name: str) -> list[expositions.Sample]:
    """The samples of one family."""
    return list(expositions.Reader(name).read(text))


@pytest.mark.parametrize("box", BOXES)
def test_a_simulated_exposition_is_one_that_the_server_takes(box: str) -> None:
    text = text_of(lived(box))
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} <= {
        family.name for family in FAMILIES
    }


def test_a_full_box_has_a_thousand_series_or_more() -> None:
    text = text_of(lived())
    assert sum(not line.startswith("#") for line in text.splitlines()) >= 1000


def test_energy_is_the_integral_of_power() -> None:
    box = SimulatedBox(BOXES["h200x8"], "seed", START, load=0.5)
    expected, active = 0.0, Active()
    for before, after in pairwise(START + 10.0 * step for step in range(200)):
        box.advance(after, {0}, active)
        expected += box.gpus[0].power_watts * (after - before)
    assert box.gpus[0].energy_joules == pytest.approx(expected)


def test_a_leased_gpu_works_and_a_free_one_without_load_does_not() -> None:
    box = SimulatedBox(BOXES["h200x8"], "seed", START, load=0.0)
    for step in range(30):
        box.advance(START + 10.0 * step, {3}, Active())
    assert box.gpus[3].work > 0.5
    assert box.gpus[3].power_watts > 400 > 100 > box.gpus[0].power_watts
    assert box.gpus[3].temperature > box.gpus[0].temperature + 10


def test_what_a_geforce_does_not_have_is_absent_and_never_zero() -> None:
    text = text_of(lived("rtx4090x6"))
    for name in ("fleet_gpu_sm_active_ratio", "fleet_gpu_ecc_errors_total", "fleet_gpu_remap_failed"):
        assert samples(text, name) == []
    assert len(samples(text, "fleet_gpu_busy_ratio")) == 6


@pytest.mark.parametrize(
    ("fault", "device", "verdict", "action"),
    [
        ("gpu-lost:n:2", "gpu2", Verdict.FAILED, Action.REBOOT),
        ("xid=48:n:1", "gpu1", Verdict.SUSPECT, Action.RESET),
        ("xid:n:1", "gpu1", Verdict.WARNED, Action.RESTART),
        ("thermal:n:0", "gpu0", Verdict.WARNED, Action.COOL),
        ("power-brake:n:0", "gpu0", Verdict.WARNED, Action.POWER),
        ("ecc:n:5", "gpu5", Verdict.SUSPECT, Action.RESET),
        ("remap-failed:n:5", "gpu5", Verdict.FAILED, Action.REPLACE),
        ("drive-wear:n:1", "drive SIMD01", Verdict.SUSPECT, Action.REPLACE),
        ("drive-gone:n:1", "drive SIMD01", Verdict.FAILED, Action.REPLACE),
    ],
)
def test_a_fault_is_found_by_the_verdicts(fault: str, device: str, verdict: Verdict, action: Action) -> None:
    box = lived(faults=fault)
    found = health.worst(health.findings(readings.READER.read(text_of(box)), box.now))
    assert (found[device].verdict, found[device].action) == (verdict, action)
    assert found.keys() <= {device, "node"}
    assert health.findings(readings.READER.read(text_of(lived())), box.now) == ()


def test_a_lost_gpu_says_nothing_but_that_it_is_lost() -> None:
    text = text_of(lived(faults="gpu-lost:n:2"))
    lost = [line for line in text.splitlines() if 'gpu="2"' in line]
    assert {line.partition("{")[0] for line in lost} == {
        "fleet_gpu_up",
        "fleet_gpu_driver_state",
        "fleet_gpu_xid_errors_total",
        "fleet_gpu_xid_last_timestamp_seconds",
    }


@pytest.mark.parametrize("kind", FaultKind)
def test_every_kind_of_fault_changes_something_and_is_gone_when_it_is_switched_off(kind: FaultKind) -> None:
    with_it = Active([Fault.parse(f"{kind}:n")])
    assert with_it.has(kind)
    assert not Active().has(kind)
    said_by_silence = kind in (
        FaultKind.SILENT,
        FaultKind.NO_METRICS,
        FaultKind.CLOCK_SKEW,
    )  # of the node, not of its hardware
    changed = text_of(lived(faults=f"{kind}:n")) != text_of(lived())
    assert changed is not said_by_silence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu-lost", "KIND[=VALUE]:NODE[:DEVICE]"),
        ("gpu-lots:sim-001", "the kind is one of gpu-lost, xid"),
        ("xid=1.2.3:sim-001", "the kind is one of"),
        ("ok:\nxid:sim-001:x", "line 1"),
    ],
)
def test_a_fault_that_is_not_written_as_one_is_refused_with_the_form(text: str, said: str) -> None:
    with pytest.raises(BadFault) as refused:
        parse_all(text)
    assert said in str(refused.value)


def test_the_file_of_faults_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "faults"
    file = FaultFile(path)
    assert file.changed() == ()
    path.write_text("xid=79:sim-003:2  # falls off\n\n# nothing\n")
    assert file.changed() == (Fault(FaultKind.XID, "sim-003", 2, 79.0),)
    assert file.changed() is None
    path.unlink()
    assert file.changed() == ()


def attempt(
    spec: NoopSpec | KernelSpec, number: int = 1, device: str = "cpu", timeout_s: float = 900.0
) -> AttemptSpec:
    """An attempt to run."""
    return AttemptSpec(
        attempt_id=number,
        job_id=number + 100,
        fence=number,
        spec=spec,
        device=device,
        exclusive=False,
        timeout_s=timeout_s,
    )


def test_a_job_takes_its_time_divided_by_the_speed() -> None:
    work = Work("seed", speed=60.0)
    work.apply([attempt(NoopSpec(seconds=600.0), device="gpu1")], (), START)
    assert work.held() == {"gpu1": 101}
    assert [each.state for each in work.look(START + 9.9, ())] == ["running"]
    [done] = work.look(START + 10.1, ())
    assert (done.state, done.outcome, done.elapsed_s) == ("exited", Outcome.SUCCEEDED, pytest.approx(600.0))
    assert done.result == {"simulated": True}
    work.apply([], [1], START + 11)
    assert work.look(START + 12, ()) == []


def test_attempts_fail_time_out_are_cancelled_and_lose_their_gpu_as_real_ones_do() -> None:
    work = Work("seed", speed=1.0)
    attempts = [
        attempt(NoopSpec(fail=True), 1),
        attempt(NoopSpec(seconds=50.0), 2, timeout_s=5.0),
        attempt(NoopSpec(seconds=50.0), 3),
        attempt(NoopSpec(seconds=50.0), 4, device="gpu2"),
        attempt(KernelSpec(kernel=KernelRef.model_validate({"program": "copy", "shape": [8]})), 5),
    ]
    work.apply(attempts, (), START)
    work.apply([each for each in attempts if each.attempt_id != 3], (), START + 1)
    found = {each.attempt_id: each.outcome for each in work.look(START + 6, {"gpu2"})}
    assert found == {
        1: Outcome.FAILED,
        2: Outcome.TIMED_OUT,
        3: Outcome.CANCELLED,
        4: Outcome.DEVICE_WEDGED,
        5: Outcome.INVALID,
    }


def test_healthy_boxes_at_full_load_stay_below_four_fifths_of_their_racks_budget() -> None:
    """Where the first alert is; a rack of mixed boxes, and one that is not full."""
    wanted = Wanted(10, [BOXES["rtx4090x6"], BOXES["h200x8"], BOXES["mi300x8"]], per_rack=4)
    most = {name: lived(name).true_watts for name in BOXES}
    names = ["rtx4090x6", "h200x8", "mi300x8"] * 4
    for first, last in ((0, 4), (4, 8), (8, 10)):
        drawn = sum(most[name] for name in names[first:last])
        assert {budget_watts(wanted, number) for number in range(first, last)} == {
            budget_watts(wanted, first)
        }
        assert 0.5 < drawn / budget_watts(wanted, first) < 0.8


def test_nodes_stand_in_racks_of_a_few_and_racks_in_sites() -> None:
    wanted = Wanted(200, per_rack=4, racks_per_site=20)
    places = [spot(wanted, number) for number in range(200)]
    assert len(set(places)) == 50
    assert {place.site for place in places} == {"site1", "site2", "site3"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--box", "dgx"], "--box dgx: there is h200x8"),
        (["--fault", "xid"], "--fault 'xid': write KIND"),
        (["--fault", "xid:other-1"], "other-1 is no node of this simulation"),
    ],
)
def test_a_wrong_option_is_named_before_anything_joins(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    token = tmp_path / "token"
    token.write_text("tfu_none")
    options = ["--url", "http://127.0.0.1:1", "--token-file", str(token), "--state", str(tmp_path / "s")]
    result = CliRunner().invoke(cli.app, ["simulate", *options, *arguments])
    assert result.exit_code == 2, result.output
    assert said in result.output
