from __future__ import annotations

import pytest

from fleet.expositions import Reader
from fleet.health import XID_ACTIONS, XID_VERDICTS, Action, Finding, Policy, Verdict, findings, worst
from fleet.readings import FAULTS, SKEW

NOW = 1_800_000_000.0
READER = Reader(*FAULTS, SKEW)


def found(text: str, policy: Policy | None = None) -> tuple[Finding, ...]:
    """The findings of a text."""
    return findings(READER.read(text), NOW, policy)


def test_a_node_that_is_well_has_no_findings() -> None:
    assert (
        found(
            'fleet_gpu_up{gpu="0"} 1\nfleet_gpus_expected 1\nfleet_gpu_driver_state{gpu="0",state="none"} 0\n'
            'fleet_gpu_throttled{gpu="0",reason="hw_thermal"} 0\nfleet_gpu_recovery_action{gpu="0"} 0\n'
            'fleet_gpu_throttled{gpu="0",reason="power_cap"} 1\nfleet_drive_up{device="nvme0",serial="S"} 1\n'
            'fleet_gpu_ecc_errors_total{gpu="0",kind="uncorrected",scope="aggregate"} 3\n'
            'fleet_drive_percentage_used_ratio{serial="S"} 0.2\nfleet_raid_array_up{array="md0"} 1\n'
        )
        == ()
    )


@pytest.mark.parametrize(
    ("text", "device", "verdict", "action"),
    [
        ('fleet_gpu_up{gpu="3"} 0\n', "gpu3", Verdict.FAILED, Action.REBOOT),
        ('fleet_gpu_driver_state{gpu="0",state="none"} 1\n', "gpu0", Verdict.SUSPECT, Action.LOAD_DRIVER),
        ('fleet_gpu_recovery_action{gpu="0"} 1\n', "gpu0", Verdict.SUSPECT, Action.RESET),
        ('fleet_gpu_recovery_action{gpu="0"} 2\n', "gpu0", Verdict.SUSPECT, Action.REBOOT),
        ('fleet_gpu_remap_failed{gpu="0"} 1\n', "gpu0", Verdict.FAILED, Action.REPLACE),
        ('fleet_gpu_throttled{gpu="0",reason="hw_thermal"} 1\n', "gpu0", Verdict.WARNED, Action.COOL),
        ('fleet_gpu_throttled{gpu="0",reason="power_brake"} 1\n', "gpu0", Verdict.WARNED, Action.POWER),
        (
            'fleet_gpu_ecc_errors_total{gpu="0",kind="uncorrected",scope="volatile"} 2\n',
            "gpu0",
            Verdict.SUSPECT,
            Action.RESET,
        ),
        ('fleet_drive_up{device="nvme0",serial="S1"} 0\n', "drive S1", Verdict.FAILED, Action.REPLACE),
        ('fleet_drive_critical_warning{serial="S1",bit="spare"} 1\n', "drive S1", Verdict.SUSPECT, None),
        ('fleet_drive_percentage_used_ratio{serial="S1"} 0.95\n', "drive S1", Verdict.WARNED, None),
        ('fleet_drive_available_spare_ratio{serial="S1"} 0.05\n', "drive S1", Verdict.WARNED, None),
        ('fleet_raid_array_up{array="md0"} 0\n', "node", Verdict.WARNED, Action.REPLACE),
        ('fleet_gpu_up{gpu="0"} 1\nfleet_gpus_expected 8\n', "node", Verdict.WARNED, Action.REBOOT),
        ("fleet_node_clock_skew_seconds -7\n", "node", Verdict.WARNED, Action.SYNC_CLOCK),
    ],
)
def test_each_fault_has_its_verdict_and_its_action(
    text: str, device: str, verdict: Verdict, action: Action | None
) -> None:
    [finding] = found(text)
    assert (finding.device, finding.verdict) == (device, verdict)
    assert action in (None, finding.action)


@pytest.mark.parametrize("xid", sorted(XID_ACTIONS))
def test_a_recent_xid_is_answered_as_the_table_says(xid: int) -> None:
    text = f'fleet_gpu_xid_last_timestamp_seconds{{gpu="0",xid="{xid}"}} {NOW - 30:.0f}\n'
    action = XID_ACTIONS[xid]
    verdict = XID_VERDICTS[action]
    expected = [] if verdict is Verdict.OK else [(verdict, action, f"XID {xid}")]
    assert [(each.verdict, each.action, each.reason) for each in found(text)] == expected


def test_time_forgives_a_program_its_xid_but_not_a_gpu() -> None:
    old = NOW - Policy().xid_recent_s - 1
    line = 'fleet_gpu_xid_last_timestamp_seconds{{gpu="0",xid="{}"}} {}\n'
    assert found(line.format(31, old)) == ()
    assert [each.action for each in found(line.format(48, old))] == [Action.RESET]


def test_of_several_findings_the_worst_counts() -> None:
    text = (
        'fleet_gpu_throttled{gpu="0",reason="hw_thermal"} 1\nfleet_gpu_up{gpu="0"} 0\n'
        'fleet_gpu_recovery_action{gpu="0"} 1\n'
    )
    assert len(found(text)) == 3
    assert {device: each.verdict for device, each in worst(found(text)).items()} == {"gpu0": Verdict.FAILED}
