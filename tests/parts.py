"""Real parts a test needs: without one a user's run skips it by name, and CI's fails."""

from __future__ import annotations

import os
import shutil

import pytest


def need(*names: str, install: str) -> str:
    """The path of the first of these programs that is there; otherwise the test is skipped, or in CI fails."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is not None:
        return found
    reason = f"{names[0]} is missing: apt-get install {install}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
