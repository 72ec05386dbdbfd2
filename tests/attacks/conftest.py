"""Forts, one for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.fort import Fort, fort, spare, user_of


@pytest.fixture(scope="module", params=["root", "nobody"])
def stands(request: pytest.FixtureRequest) -> Iterator[Fort]:
    """An agent with all the walls that this machine has, run by root and by another user."""
    with fort(user_of(request.param), "all") as made:
        yield made
        spare(made)
