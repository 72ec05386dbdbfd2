"""`python -m fleet.agents --server URL …` runs the agent; `python -m fleet.agents node doctor` and so on also work."""

from __future__ import annotations

import sys

from fleet.agents.cli import app


def verbed(arguments: list[str]) -> list[str]:
    """The arguments with the verb that is meant when none is given: agent."""
    return arguments if arguments and not arguments[0].startswith("-") else ["agent", *arguments]


if __name__ == "__main__":
    app(verbed(sys.argv[1:]), prog_name="python -m fleet.agents")
