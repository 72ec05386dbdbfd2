"""The device of every test here: each file is run on each of DEVICES."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

# On the CPU device each kernel is compiled: minutes in all.
DEVICES = ("INTERP", pytest.param("CPU", marks=pytest.mark.slow))


@pytest.fixture(scope="module", params=DEVICES, autouse=True)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device that tensors are made on when no other is named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEV", request.param)
        yield request.param
