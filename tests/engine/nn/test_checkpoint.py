"""Checkpoints: what is written comes back, bit for bit, and files that lie are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine import dtype as dt
from engine import nn
from engine.errors import InvalidGraph
from engine.tensor import Tensor


@pytest.mark.parametrize("dtype", dt.DTYPES.values(), ids=lambda d: d.name)
def test_every_dtype_comes_back_bit_for_bit(dtype: dt.DType, tmp_path: Path) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype.numpy)
    nn.safe_save({"x": Tensor(values)}, tmp_path / "model.safetensors")
    found = nn.safe_load(tmp_path / "model.safetensors")["x"]
    assert (found.dtype, found.shape) == (dtype, (3, 4))
    assert found.numpy().tobytes() == values.tobytes()


def test_a_model_comes_back_also_what_is_empty_or_a_number(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm(4))
    state = {
        **model.state_dict(),
        "none": Tensor(np.zeros((0, 3), np.float32)),
        "one": Tensor(np.float32(2.5)),
    }
    nn.safe_save(state, path, {"made": "by a test"})
    found = nn.safe_load(path)
    assert set(found) == set(state)
    assert len(found) == len(state)
    assert found.metadata == {"made": "by a test"}
    assert (found["none"].shape, found["one"].item()) == ((0, 3), 2.5)
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm(4))
    other.load_state_dict({name: found[name] for name in model.state_dict()})
    x = Tensor([[1.0, -2.0, 3.0], [0.0, 1.0, 0.5]])
    assert other(x).tolist() == model(x).tolist()


def test_tensors_not_yet_computed_are_computed_to_be_saved(tmp_path: Path) -> None:
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    nn.safe_save({"turned": x.T, "sum": x + 1}, tmp_path / "x")
    found = nn.safe_load(tmp_path / "x")
    assert found["turned"].tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert found["sum"].tolist() == [[2.0, 3.0], [4.0, 5.0]]


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    nn.safe_save({"a": Tensor([1.0]), "b": Tensor([2.0])}, path)
    found = nn.safe_load(path)
    assert sorted(found) == ["a", "b"]
    changed = path.read_bytes()[:-4] + np.float32(7).tobytes()
    path.write_bytes(changed)
    assert found["b"].item() == 7.0
    with pytest.raises(KeyError):
        found["c"]


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:6], lambda b: b"\xff" * len(b)])
def test_a_damaged_file_is_refused(damage: object, tmp_path: Path) -> None:
    path = tmp_path / "x"
    nn.safe_save({"a": Tensor([1.0, 2.0])}, path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(InvalidGraph, match="no safetensors file"):
        nn.safe_load(path)
