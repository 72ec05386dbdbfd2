"""Checkpoints of any shape come back as they were, and nothing that would have to be executed is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine.torch as torch
from engine import nn
from engine.errors import InvalidGraph


def test_a_training_is_kept_and_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    x = torch.tensor(np.random.default_rng(0).standard_normal((8, 3), dtype=np.float32))

    def made() -> tuple[nn.Module, Any, Any]:
        model = nn.Linear(3, 2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        return model, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    def steps(model: Any, optimizer: Any, schedule: Any) -> list[float]:
        found = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            schedule.step()
            found.append(loss.item())
        return found

    model, optimizer, schedule = made()
    steps(model, optimizer, schedule)
    kept = {"epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**kept, "schedule": schedule.state_dict(), "best": float("inf")}, tmp_path / "checkpoint.pt")
    wanted = steps(model, optimizer, schedule)

    model, optimizer, schedule = made()
    loaded = torch.load(tmp_path / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizer"])
    schedule.load_state_dict(loaded["schedule"])
    assert (loaded["epoch"], loaded["best"]) == (3, float("inf"))
    assert steps(model, optimizer, schedule) == pytest.approx(wanted, rel=1e-6)


def test_every_kind_of_value_comes_back_as_it_was(tmp_path: Path) -> None:
    value = {
        "a/b": [1, 2.5, None, True, "text"],
        3: (torch.tensor([1, 2]), {"deep": np.float32([0.5])}),
        "dict": {},
    }
    torch.save(value, tmp_path / "file")
    found = torch.load(tmp_path / "file")
    assert found["a/b"] == value["a/b"]
    assert found["dict"] == {}
    assert isinstance(found[3], tuple)
    assert found[3][0].tolist() == [1, 2]
    assert found[3][1]["deep"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"model": nn.Identity()}}, "a/model is Identity: save its state_dict"),
        ({"a": {1.5: 0}}, "a has the key 1.5"),
        (nn.Identity(), "save: Identity: save its state_dict"),
    ],
)
def test_what_cannot_be_kept_is_named(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidGraph, match=message):
        torch.save(value, tmp_path / "file")
    assert not (tmp_path / "file").exists()
