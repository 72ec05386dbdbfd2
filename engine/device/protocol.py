"""What the rest of the engine asks of a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from engine.kernel import Kernel
from engine.needed import Needed

Array = np.ndarray[Any, np.dtype[Any]]
Runnable = Callable[[Sequence[Array]], Array]


class Device(Protocol):
    """Runs kernels on arrays in the host's memory."""

    @property
    def name(self) -> str:
        """The canonical name: what `engine.device.get` takes."""

    def run(self, kernel: Kernel, inputs: Sequence[Array]) -> Array:
        """The output of `kernel` for C-contiguous inputs in slot order, as a new array.

        A device without memory gives an `Absent`; those that compute are never given one.
        """


@dataclass(frozen=True, slots=True)
class Launch:
    """Run `kernel` on the memory in `inputs` (slots) into slot `output`; then `free` slots are needed no more.

    `needed` says of what elements nothing reads any others; they may hold anything.
    """

    kernel: Kernel
    device: Device
    inputs: tuple[int, ...]
    output: int
    free: tuple[int, ...]
    needed: Needed | None = None


# Runs a list of launches on memories by slot, and puts the results, which are new arrays, among them.
Replayed = Callable[[list[Any]], None]


@runtime_checkable
class Replays(Protocol):
    """A device that goes through a whole list of kernels by itself."""

    def replayed(
        self, launches: Sequence[Launch], constants: Mapping[int, Array], results: frozenset[int], slots: int
    ) -> Replayed:
        """The launches, lowered once, to be run again and again, by several threads at once too.

        `constants` are the memories that never change and `results` the slots that are wanted, of `slots` in all.
        No kernel is without elements.
        """


class Absent(np.ndarray[Any, np.dtype[Any]]):
    """An array of a device that has no memory: a shape and a dtype, and one element's room whatever the shape."""

    def __new__(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Absent:
        """Nothing of that shape. ValueError if not even an address space of 64 bits would hold it."""
        return super().__new__(cls, shape, dtype, np.zeros(1, dtype), 0, (0,) * len(shape))
