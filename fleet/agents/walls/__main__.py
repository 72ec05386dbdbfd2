"""`python -m fleet.agents.walls --state DIR [--walls all|required|none|NAME,…]`: the walls of this machine, as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fleet.agents.walls.machine import survey


def main(arguments: list[str]) -> None:
    """Print a list of walls."""
    parser = argparse.ArgumentParser(prog="python -m fleet.agents.walls", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the agent's state directory")
    parser.add_argument("--walls", default="all", help="which walls are meant")
    options = parser.parse_args(arguments)
    print(json.dumps(survey(options.state, options.walls).document()))


if __name__ == "__main__":
    main(sys.argv[1:])
