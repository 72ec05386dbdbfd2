"""Which probes a machine gets. A probe that finds nothing of its kind costs a look a minute and no series."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from fleet.agents.collecting import Probe
from fleet.agents.probes.amdgpu import AmdGpu
from fleet.agents.probes.blocks import Blocks
from fleet.agents.probes.drives import Drives
from fleet.agents.probes.gpus import Gpus
from fleet.agents.probes.host import Host
from fleet.agents.probes.instinct import Instinct
from fleet.agents.probes.ipmi import Ipmi
from fleet.agents.probes.kmsg import Kmsg
from fleet.agents.probes.nvml import Nvml, Session
from fleet.agents.probes.nvml_events import NvmlEvents
from fleet.agents.probes.nvml_fields import NvmlFields
from fleet.agents.probes.nvml_gpm import NvmlGpm
from fleet.agents.probes.pcie import Pcie
from fleet.agents.probes.pdu import Pdu
from fleet.agents.probes.rapl import Rapl
from fleet.agents.probes.redfish import Redfish
from fleet.agents.telemetry_config import Config
from fleet.agents.xids import Xids


class Source(NamedTuple):
    """A probe; `powered` is it again where it can be asked for power too."""

    probe: Probe
    powered: Any = None


def sources(root: Path, state: Path | None, xids: Xids, config: Config) -> list[Source]:
    """All probes, of the machine below `root` and of what `config` adds to it."""
    session, amd = Session(), AmdGpu(root)
    nvidia = Nvml(session)
    return [
        Source(Host(root, state)),
        Source(Gpus(root)),
        Source(Pcie(root)),
        Source(Kmsg(xids, root)),
        Source(Rapl(root)),
        Source(Blocks(root)),
        Source(Drives(root)),
        Source(Ipmi(root, remote=config.ipmi)),
        *([Source(Redfish(config.redfish))] if config.redfish else []),
        *([Source(Pdu(config.pdus))] if config.pdus else []),
        Source(Instinct(root)),  # before sysfs, whose fresher values win
        Source(amd, amd),
        Source(nvidia, nvidia),
        Source(NvmlFields(session)),
        Source(NvmlGpm(session)),
        Source(NvmlEvents(session, xids)),
    ]
