"""`python -m fleet.simulation`: the same as `tinyfleet simulate`."""

from __future__ import annotations

from fleet.simulation.cli import app

if __name__ == "__main__":
    app()
