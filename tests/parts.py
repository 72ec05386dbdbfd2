"""Real parts a test needs: without one a user's run skips it by name, and CI's fails."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def need(*names: str, install: str) -> str:
    """The path of the first of these programs that is there; otherwise the test is skipped, or in CI fails."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        missing(f"{names[0]} is missing: apt-get install {install}")
    return found


def missing(reason: str) -> NoReturn:
    """The test is skipped for this reason, or in CI fails."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
