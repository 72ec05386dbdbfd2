"""Recent samples + policy → verdict: what is wrong with a node's GPUs and drives, and what to do about it. Pure.

What an XID asks for follows NVIDIA's catalogue of XIDs and its recovery actions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from fleet.expositions import Sample
from fleet.readings import SKEW, gpu_name


class Verdict(StrEnum):
    """How far a device is to be used, worst last."""

    OK = "ok"
    WARNED = "warned"  # it works; somebody should look
    SUSPECT = "suspect"  # takes no new work until its action was taken
    FAILED = "failed"  # cannot work


class Action(StrEnum):
    """What answers a finding."""

    NOTHING = "nothing"
    RESTART = "restart the program"
    RESET = "reset the GPU"
    REBOOT = "reboot the node"
    RECOVER = "read the recovery action"
    COOL = "check cooling and airflow"
    POWER = "check the power supplies"
    REPLACE = "replace it"
    LOAD_DRIVER = "load the driver"
    SYNC_CLOCK = "set the node's clock by NTP"


_WORSE = tuple(Verdict)
_XIDS: Mapping[Action, tuple[int, ...]] = {
    Action.RESTART: (13, 31, 69, 94),
    Action.NOTHING: (43, 63, 92, 121),
    Action.RESET: (48, 62, 64, 74, 95, 109, 110, 119, 120),
    Action.REBOOT: (79,),
    Action.RECOVER: (154,),
}
XID_ACTIONS: Mapping[int, Action] = {xid: action for action, xids in _XIDS.items() for xid in xids}
XID_VERDICTS: Mapping[Action, Verdict] = {
    Action.RESTART: Verdict.WARNED,
    Action.NOTHING: Verdict.OK,
    Action.RESET: Verdict.SUSPECT,
    Action.REBOOT: Verdict.FAILED,
    Action.RECOVER: Verdict.SUSPECT,
}
# What the driver itself asks for (nvmlDeviceGetFieldValues, recovery action).
_RECOVERIES = {1: Action.RESET, 2: Action.REBOOT, 3: Action.RESET, 4: Action.RESET}


@dataclass(frozen=True)
class Policy:
    """Where warnings begin: seconds for which an XID is recent, and shares of a drive's life."""

    xid_recent_s: float = 600.0
    drive_used_ratio: float = 0.9
    drive_spare_ratio: float = 0.1
    clock_offset_s: float = 2.0
    clock_cordon_s: float = 10.0  # then the node takes no new work


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with `device` (gpu0, drive SERIAL, node), how bad, why, and what answers it."""

    device: str
    verdict: Verdict
    reason: str
    action: Action


def findings(
    samples: Iterable[Sample],
    now: float,
    policy: Policy | None = None,
    resets: Mapping[str, float] | None = None,
) -> tuple[Finding, ...]:
    """All that is wrong, worst first, then by device. `now` is the node's own time, as it stamps XIDs. `resets`: when a
    GPU, by its name, was reset last: what it reported before is answered."""
    by_name: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_name[sample.name].append(sample)
    rules = policy or Policy()
    found = [
        *_gpus_gone(by_name),
        *_xids(by_name["fleet_gpu_xid_last_timestamp_seconds"], now, rules, resets or {}),
        *_memory(by_name),
        *_throttled(by_name["fleet_gpu_throttled"]),
        *_drives(by_name, rules),
        *_node(by_name, rules),
    ]
    return tuple(sorted(found, key=lambda each: (-_WORSE.index(each.verdict), each.device, each.reason)))


def worst(found: Sequence[Finding]) -> Mapping[str, Finding]:
    """The worst finding of each device."""
    chosen: dict[str, Finding] = {}
    for each in found:
        before = chosen.get(each.device)
        if before is None or _WORSE.index(each.verdict) > _WORSE.index(before.verdict):
            chosen[each.device] = each
    return chosen


def _gpus_gone(by_name: Mapping[str, Sequence[Sample]]) -> Iterable[Finding]:
    for sample in by_name["fleet_gpu_up"]:
        if sample.value == 0:
            yield Finding(gpu_name(sample), Verdict.FAILED, "the GPU does not answer", Action.REBOOT)
    for sample in by_name["fleet_gpu_driver_state"]:
        if sample.label("state") == "none" and sample.value == 1:
            yield Finding(gpu_name(sample), Verdict.SUSPECT, "no driver has the GPU", Action.LOAD_DRIVER)
    for sample in by_name["fleet_gpu_recovery_action"]:
        if sample.value:
            action = _RECOVERIES.get(int(sample.value), Action.RESET)
            yield Finding(gpu_name(sample), Verdict.SUSPECT, f"its driver asks for: {action}", action)


def _xids(
    samples: Iterable[Sample], now: float, rules: Policy, resets: Mapping[str, float]
) -> Iterable[Finding]:
    for sample in samples:
        if sample.value <= resets.get(gpu_name(sample), 0.0):
            continue
        xid = sample.label("xid")
        action = XID_ACTIONS.get(int(xid), Action.RESTART) if xid.isdigit() else Action.RESTART
        verdict = XID_VERDICTS[action]
        recent = now - sample.value < rules.xid_recent_s
        # what asks for a reset or a reboot is not over because time has passed: the agent forgets it with the reboot
        if verdict is not Verdict.OK and (recent or verdict is not Verdict.WARNED):
            yield Finding(gpu_name(sample), verdict, f"XID {xid}", action)


def _memory(by_name: Mapping[str, Sequence[Sample]]) -> Iterable[Finding]:
    for sample in by_name["fleet_gpu_ecc_errors_total"]:
        if sample.label("kind") == "uncorrected" and sample.label("scope") == "volatile" and sample.value:
            reason = f"{sample.value:.0f} uncorrected memory errors since its driver was loaded"
            yield Finding(gpu_name(sample), Verdict.SUSPECT, reason, Action.RESET)
    for sample in by_name["fleet_gpu_remap_failed"]:
        if sample.value:
            yield Finding(
                gpu_name(sample), Verdict.FAILED, "a row of its memory could not be replaced", Action.REPLACE
            )


def _throttled(samples: Iterable[Sample]) -> Iterable[Finding]:
    for sample in samples:
        reason = sample.label("reason")
        if sample.value and reason in ("hw_thermal", "power_brake"):
            action = Action.COOL if reason == "hw_thermal" else Action.POWER
            yield Finding(gpu_name(sample), Verdict.WARNED, f"clocks are held down: {reason}", action)


def _drives(by_name: Mapping[str, Sequence[Sample]], rules: Policy) -> Iterable[Finding]:
    for sample in by_name["fleet_drive_up"]:
        if sample.value == 0:
            yield Finding(_drive(sample), Verdict.FAILED, "it does not answer", Action.REPLACE)
    for sample in by_name["fleet_drive_critical_warning"]:
        if sample.value:
            reason = f"it warns: {sample.label('bit')}"
            yield Finding(_drive(sample), Verdict.SUSPECT, reason, Action.REPLACE)
    for sample in by_name["fleet_drive_percentage_used_ratio"]:
        if sample.value >= rules.drive_used_ratio:
            reason = f"{sample.value:.0%} of its endurance is used"
            yield Finding(_drive(sample), Verdict.WARNED, reason, Action.REPLACE)
    for sample in by_name["fleet_drive_available_spare_ratio"]:
        if sample.value <= rules.drive_spare_ratio:
            reason = f"{sample.value:.0%} of its spare blocks are left"
            yield Finding(_drive(sample), Verdict.WARNED, reason, Action.REPLACE)
    for sample in by_name["fleet_raid_array_up"]:
        if sample.value == 0:
            reason = f"array {sample.label('array')} lacks a member"
            yield Finding("node", Verdict.WARNED, reason, Action.REPLACE)


def _drive(sample: Sample) -> str:
    return f"drive {sample.label('serial') or sample.label('device')}"


def _node(by_name: Mapping[str, Sequence[Sample]], rules: Policy) -> Iterable[Finding]:
    up = sum(sample.value == 1 for sample in by_name["fleet_gpu_up"])
    for sample in by_name["fleet_gpus_expected"]:
        if up < sample.value:
            reason = f"{up} of {sample.value:.0f} GPUs answer"
            yield Finding("node", Verdict.WARNED, reason, Action.REBOOT)
    for sample in by_name[SKEW]:
        if abs(sample.value) > rules.clock_offset_s:
            reason = f"its clock is {-sample.value:+.1f} s off"
            worse = abs(sample.value) > rules.clock_cordon_s
            yield Finding("node", Verdict.SUSPECT if worse else Verdict.WARNED, reason, Action.SYNC_CLOCK)
