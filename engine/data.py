"""Data sets in batches, by the names of torch.utils.data; batches are made in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import floor
from typing import Any

import numpy as np

from engine.errors import InvalidGraph
from engine.generator import Generator
from engine.tensor import Tensor


class Dataset:
    """Examples by number: a subclass has `__getitem__` and `__len__`."""

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__")


class TensorDataset(Dataset):
    """Example i is the tuple of the i-th slices of some tensors. InvalidGraph if their first axes differ."""

    def __init__(self, *tensors: Tensor) -> None:
        if len({tensor.shape[0] for tensor in tensors}) != 1:
            raise InvalidGraph(f"first axes differ: {[t.shape for t in tensors]}", "TensorDataset: tensors")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])

    def batch(self, indices: Sequence[int]) -> list[Tensor]:
        """Many examples at once."""
        return [tensor[np.asarray(indices, np.int64)] for tensor in self.tensors]


class Subset(Dataset):
    """Some examples of another data set."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Parts of so many examples, or of such shares of all, drawn at random. InvalidGraph if they are not all."""
    count = len(dataset)
    if all(0 < n <= 1 for n in lengths) and abs(sum(lengths) - 1) < 1e-6:
        sizes = [floor(count * n) for n in lengths]
        for extra in range(count - sum(sizes)):
            sizes[extra % len(sizes)] += 1
    else:
        sizes = [int(n) for n in lengths]
    if sum(sizes) != count:
        raise InvalidGraph(f"{list(lengths)} are not all of {count} examples", "random_split: lengths")
    order = iter(_shuffled(count, generator))
    return [Subset(dataset, [next(order) for _ in range(size)]) for size in sizes]


class DataLoader:
    """Batches of a data set, in order or shuffled anew each time; the last may be smaller unless `drop_last`.

    `collate_fn` makes a batch of a list of examples: by default `default_collate`. Workers, pinned memory and the like
    are taken and change nothing. InvalidGraph for a batch size below 1, or both shuffle and sampler.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        *,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        generator: Generator | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        persistent_workers: bool = False,
    ) -> None:
        if batch_size < 1:
            raise InvalidGraph(f"{batch_size} must be 1 or more", "batch_size")
        if shuffle and sampler is not None:
            raise InvalidGraph("the sampler says the order: leave shuffle out", "shuffle")
        self.dataset, self.batch_size, self.shuffle, self.sampler = dataset, batch_size, shuffle, sampler
        self.collate_fn, self.drop_last, self.generator = collate_fn, drop_last, generator

    def __len__(self) -> int:
        count = len(self.sampler) if isinstance(self.sampler, Sequence) else len(self.dataset)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        order: list[int] = list(range(len(self.dataset)) if self.sampler is None else self.sampler)
        if self.shuffle:
            order = _shuffled(len(self.dataset), self.generator)
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            if len(chosen) == self.batch_size or not self.drop_last:
                yield self._batch(chosen)

    def _batch(self, chosen: list[int]) -> Any:
        whole, places = self.dataset, chosen
        while isinstance(whole, Subset):
            whole, places = whole.dataset, [whole.indices[place] for place in places]
        if isinstance(whole, TensorDataset) and self.collate_fn is None:
            return whole.batch(places)
        return (self.collate_fn or default_collate)([self.dataset[place] for place in chosen])


def default_collate(examples: list[Any]) -> Any:
    """Tensors, arrays and numbers stacked along a new first axis; dicts, lists and tuples of them part by part."""
    first = examples[0]
    if isinstance(first, Tensor):
        return Tensor.stack(list(examples))
    if isinstance(first, np.ndarray | np.generic):
        return Tensor(np.stack(examples))
    if isinstance(first, bool | int):
        return Tensor(np.array(examples))
    if isinstance(first, float):
        return Tensor(np.array(examples, np.float64))
    if isinstance(first, str):
        return examples
    if isinstance(first, Mapping):
        return {key: default_collate([one[key] for one in examples]) for key in first}
    if isinstance(first, list | tuple):
        return [default_collate(list(parts)) for parts in zip(*examples, strict=True)]
    raise InvalidGraph(f"{type(first).__name__} cannot be stacked: pass collate_fn", "DataLoader")


def _shuffled(count: int, generator: Generator | None) -> list[int]:
    found: list[int] = Tensor.randperm(count, generator=generator).tolist()
    return found
