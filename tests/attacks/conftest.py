"""Forts, one for all tests of a module."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.attacks.fort import NOBODY, Fort, fort, spare


@pytest.fixture(scope="module", params=["root", "nobody"])
def stands(request: pytest.FixtureRequest) -> Iterator[Fort]:
    """An agent with all the walls that this machine has, run by root and by another user."""
    uid = 0 if request.param == "root" else NOBODY
    if os.geteuid() != 0:
        if uid == 0:
            pytest.skip("not root: no agent can be run as root")
        uid = os.geteuid()
    with fort(uid, "all") as made:
        yield made
        spare(made)
