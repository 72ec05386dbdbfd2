"""Real output of tools, where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


@pytest.fixture
def shared_samples() -> Path:
    """The folder of recorded samples: $TINYFLEET_SAMPLES, else beside the repository; skipped where there is none."""
    folder = Path(os.environ.get("TINYFLEET_SAMPLES") or ROOT.parent / "shared" / "samples")
    if not folder.is_dir():
        pytest.skip("no recorded samples: set TINYFLEET_SAMPLES to a folder of them")
    return folder
