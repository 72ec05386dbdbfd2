"""ROCm's own Python package, asked in a child: importing it prints, may raise KeyError, and its library may crash.

`python -m fleet.agents.probes.amdsmi` prints what `amd-smi metric --json` prints, as far as it is looked at here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from fleet.agents.probes.amd_smi import documents
from fleet.agents.probes.commands import Failed, Run

COMMAND = (sys.executable, "-m", "fleet.agents.probes.amdsmi")
_TIMEOUT_S = 20.0


def read(run: Run) -> list[dict[str, Any]]:
    """One document per GPU. Raises Failed, also where the package is not there."""
    said = run(COMMAND, _TIMEOUT_S)
    if said.status:
        raise Failed(f"amdsmi: {said.errors.strip().rpartition(chr(10))[2] or f'exit status {said.status}'}")
    return documents(said.output)


def look(library: Any) -> dict[str, Any]:
    """All GPUs, in the shape of `amd-smi metric --json`, with their addresses."""
    library.amdsmi_init()
    handles = library.amdsmi_get_processor_handles()
    return {"gpu_data": [_gpu(library, number, handle) for number, handle in enumerate(handles)]}


def _gpu(library: Any, number: int, handle: Any) -> dict[str, Any]:
    kinds, now = library.AmdSmiTemperatureType, library.AmdSmiTemperatureMetric.CURRENT
    power = _asked(library.amdsmi_get_power_info, handle) or {}
    vram = _asked(library.amdsmi_get_gpu_vram_usage, handle) or {}
    errors = _asked(library.amdsmi_get_gpu_total_ecc_count, handle) or {}
    names = (("edge", kinds.EDGE), ("hotspot", kinds.HOTSPOT), ("mem", kinds.VRAM))
    return {
        "gpu": number,
        "bdf": _asked(library.amdsmi_get_gpu_device_bdf, handle),
        "uuid": _asked(library.amdsmi_get_gpu_device_uuid, handle),
        "usage": _asked(library.amdsmi_get_gpu_activity, handle),
        "power": {
            "socket_power": _first(power, "socket_power", "current_socket_power", "average_socket_power")
        },
        "temperature": {
            name: _asked(library.amdsmi_get_temp_metric, handle, kind, now) for name, kind in names
        },
        "mem_usage": {"total_vram": vram.get("vram_total"), "used_vram": vram.get("vram_used")},
        "ecc": {
            "total_correctable_count": errors.get("correctable_count"),
            "total_uncorrectable_count": errors.get("uncorrectable_count"),
        },
    }


def _first(document: dict[str, Any], *names: str) -> Any:
    """The first that is a number; all bits set is none."""
    values = (document.get(name) for name in names)
    return next((each for each in values if isinstance(each, int) and each not in (0xFFFF, 0xFFFFFFFF)), None)


def _asked(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception:  # noqa: BLE001 - whatever a card lacks, it is said in an exception of its own
        return None


def main() -> int:
    """Print it. What the library prints goes where errors go."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        import amdsmi

        document = look(amdsmi)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a missing ROCm is a KeyError, an AttributeError, an OSError
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    out.write(json.dumps(document, default=str))
    out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
