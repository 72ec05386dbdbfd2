"""`python -m fleet.agents.probes`: read every probe once and print how each does, as JSON. For `tinyfleet node doctor`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from fleet.agents.collecting import Collector
from fleet.agents.probes.gpus import Gpus
from fleet.agents.sources import sources
from fleet.agents.telemetry_config import CONFIG, BadConfig, load
from fleet.agents.xids import Xids

_LOOK_S = 0.05


def look(root: Path, state: Path | None, config: Path, patience_s: float) -> dict[str, Any]:
    """{"config": what is wrong with it, "gpus": […], "probes": [{name, parts, series, problems}]}, within so many seconds."""
    try:
        told, wrong = load(config), ""
    except BadConfig as error:
        told, wrong = load(Path("/nonexistent")), str(error)
    collectors = [Collector(source.probe) for source in sources(root, state, Xids(), told)]
    for collector in collectors:
        collector.start()
    until = time.monotonic() + patience_s
    while time.monotonic() < until and not all(each.ran for each in collectors):
        time.sleep(_LOOK_S)
        for collector in collectors:
            collector.watch()
    gpus = [gpu for each in collectors if isinstance(each.probe, Gpus) for gpu in each.probe.found]
    return {
        "config": wrong,
        "gpus": [gpu._asdict() for gpu in gpus],
        "probes": [_state(each) for each in collectors],
    }


def _state(collector: Collector) -> dict[str, Any]:
    problems = collector.problems()
    if not collector.ran and not problems:
        problems = {"": "has not answered yet"}
    return {
        "name": collector.probe.name,
        "parts": collector.parts,
        "series": len(collector.samples()),
        "problems": problems,
    }


def main(arguments: list[str]) -> None:
    """Print it, and leave what hangs behind."""
    parser = argparse.ArgumentParser(prog="python -m fleet.agents.probes", description=__doc__)
    parser.add_argument("--state", type=Path, default=None, help="the agent's state directory")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where /sys and /proc are (tests)")
    parser.add_argument("--config", type=Path, default=CONFIG, help="the telemetry's file")
    parser.add_argument("--patience", type=float, default=12.0, help="seconds")
    options = parser.parse_args(arguments)
    found = look(options.root, options.state, options.config, options.patience)
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
