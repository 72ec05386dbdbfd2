"""Which probes a machine gets. A probe that finds nothing of its kind costs a look a minute and no series."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from fleet.agents.collecting import Probe
from fleet.agents.probes.amdgpu import AmdGpu
from fleet.agents.probes.gpus import Gpus
from fleet.agents.probes.host import Host
from fleet.agents.probes.nvml import Nvml, Session
from fleet.agents.probes.nvml_events import NvmlEvents
from fleet.agents.probes.nvml_fields import NvmlFields
from fleet.agents.probes.nvml_gpm import NvmlGpm
from fleet.agents.probes.pcie import Pcie
from fleet.agents.xids import Xids


class Source(NamedTuple):
    """A probe; `powered` is it again where it can be asked for power too."""

    probe: Probe
    powered: Any = None


def sources(root: Path, state: Path | None, xids: Xids) -> list[Source]:
    """All probes, of the machine below `root`."""
    session, amd = Session(), AmdGpu(root)
    nvidia = Nvml(session)
    return [
        Source(Host(root, state)),
        Source(Gpus(root)),
        Source(Pcie(root)),
        Source(amd, amd),
        Source(nvidia, nvidia),
        Source(NvmlFields(session)),
        Source(NvmlGpm(session)),
        Source(NvmlEvents(session, xids)),
    ]
