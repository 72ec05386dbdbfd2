"""What `tinyfleet node doctor` says of telemetry: which probes work here, which do not and why, and who drives the GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fleet.agents.findings import Finding
from fleet.agents.starter import task_environment

_LOOK_S = 40.0
# Probes that fail by nature where no such GPU is.
_OF_VENDOR = {"nvml": "nvidia", "nvml_fields": "nvidia", "nvml_gpm": "nvidia", "nvml_events": "nvidia"}
_FIXES = {
    "drives": "apt-get install smartmontools nvme-cli; both need root",
    "kmsg": "the log is root's: run the agent as root, or XIDs of a GPU that fell off the bus go unseen",
    "rapl": "the counters are root's: run the agent as root, or do without the processors' energy",
    "ipmi": "apt-get install ipmitool; /dev/ipmi0 is root's, and not every BMC measures power",
    "redfish": "look at [redfish] in the telemetry's file",
    "pdu": "look at [[pdu]] in the telemetry's file",
    "nvml": "load the driver: modprobe nvidia",
    "instinct": "install ROCm's amdsmi, or amd-smi",
}


def examine_probes(state: Path) -> list[Finding]:
    """Read every probe once, in a process of its own: what hangs in a driver costs its time alone."""
    command = [sys.executable, "-m", "fleet.agents.probes", "--state", str(state)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LOOK_S, env=task_environment(), check=True
        )
        return findings(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()[-300:]
        return [Finding("telemetry", "weak", f"the probes could not be tried: {said}", "see the message")]


def findings(document: dict[str, Any]) -> list[Finding]:
    """Lines of what the probes' process found. Pure."""
    vendors = {gpu["vendor"] for gpu in document["gpus"]}
    found = [_gpu(gpu) for gpu in document["gpus"]]
    if document["config"]:
        found.append(
            Finding("telemetry file", "weak", document["config"], "mend it; until then none of it is read")
        )
    absent = []
    for probe in document["probes"]:
        name, problems = probe["name"], probe["problems"]
        foreign = name in _OF_VENDOR and _OF_VENDOR[name] not in vendors
        if foreign or (not probe["parts"] and not problems):
            absent.append(name)
        elif problems:
            said = "; ".join(f"{part}: {text}" if part else text for part, text in problems.items())
            found.append(Finding(f"probe {name}", "weak", said[:400], _FIXES.get(name, "")))
        else:
            parts = ", ".join(probe["parts"])[:80]
            found.append(Finding(f"probe {name}", "ok", f"{probe['series']} series of {parts}"))
    if absent:
        found.append(Finding("other probes", "ok", f"nothing for them here: {', '.join(absent)}"))
    return found


def _gpu(gpu: dict[str, str]) -> Finding:
    subject = f"gpu {gpu['pci_address']}"
    if gpu["state"] == "kernel":
        return Finding(subject, "ok", f"{gpu['vendor']}, driver {gpu['driver']}")
    if gpu["state"] == "userspace":
        return Finding(subject, "ok", f"{gpu['vendor']}, driven from user space: no vendor's tool sees it")
    return Finding(
        subject,
        "weak",
        f"{gpu['vendor']}, no driver has it",
        "load its kernel driver, or start what drives it",
    )
