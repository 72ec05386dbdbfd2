"""Data sets in batches: order, sizes, what batches are made of, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import engine.torch as torch
from engine.data import DataLoader, Dataset, Subset, TensorDataset, random_split
from engine.errors import InvalidGraph


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")


class _Squares(Dataset):
    def __getitem__(self, index: int) -> Any:
        return {"x": np.float32([index, index**2]), "y": index, "name": str(index)}, torch.tensor([index])

    def __len__(self) -> int:
        return 5


def numbers(count: int) -> TensorDataset:
    return TensorDataset(torch.arange(count), torch.arange(count) * 10)


def test_batches_are_in_order_and_the_last_is_smaller_or_dropped() -> None:
    loader = DataLoader(numbers(7), batch_size=3)
    assert [x.tolist() for x, _ in loader] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [y.tolist() for _, y in loader] == [[0, 10, 20], [30, 40, 50], [60]]
    fewer = DataLoader(numbers(7), batch_size=3, drop_last=True)
    assert (len(loader), len(fewer), len(list(fewer))) == (3, 2, 2)


def test_shuffling_is_anew_each_time_and_follows_the_seed() -> None:
    torch.manual_seed(3)
    loader = DataLoader(numbers(20), batch_size=20, shuffle=True)
    first, second = (next(iter(loader))[0].tolist() for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    torch.manual_seed(3)
    assert next(iter(loader))[0].tolist() == first


def test_examples_of_any_kind_are_stacked_part_by_part() -> None:
    (part, index), *_ = DataLoader(_Squares(), batch_size=2, sampler=[4, 1])
    assert part["x"].tolist() == [[4, 16], [1, 1]]
    assert (part["y"].tolist(), part["name"], index.tolist()) == ([4, 1], ["4", "1"], [[4], [1]])
    pairs = DataLoader(
        _Squares(), batch_size=2, collate_fn=lambda examples: [one[0]["y"] for one in examples]
    )
    assert list(pairs) == [[0, 1], [2, 3], [4]]


def test_a_split_is_all_of_it_and_its_batches_are_the_wholes() -> None:
    whole = numbers(10)
    for lengths in ([7, 3], [0.65, 0.35]):
        parts = random_split(whole, lengths, torch.Generator().manual_seed(0))
        assert [len(part) for part in parts] == [7, 3]
        assert sorted(i for part in parts for i in part.indices) == list(range(10))
        (x, y), *_ = DataLoader(Subset(parts[0], [2, 0]), batch_size=2)
        assert x.tolist() == [parts[0].indices[2], parts[0].indices[0]]
        assert y.tolist() == [10 * n for n in x.tolist()]
    assert whole[3][1].item() == 30


def test_what_does_not_fit_is_refused() -> None:
    for call, message in (
        (lambda: TensorDataset(torch.zeros(3), torch.zeros(4)), "first axes differ"),
        (lambda: random_split(numbers(4), [3, 2]), "are not all of 4 examples"),
        (lambda: DataLoader(numbers(4), batch_size=0), "batch_size: 0 must be 1 or more"),
        (lambda: DataLoader(numbers(4), shuffle=True, sampler=[0]), "shuffle"),
        (lambda: list(DataLoader([object()])), "object cannot be stacked: pass collate_fn"),
    ):
        with pytest.raises(InvalidGraph, match=message):
            call()
