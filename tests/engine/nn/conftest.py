"""Layers are tested on the interpreter: what is asked here is what they mean, not how fast they are."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")
