"""What the rest of the engine asks of a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from engine.kernel import Kernel

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


class Absent(np.ndarray[Any, np.dtype[Any]]):
    """An array of a device that has no memory: a shape and a dtype, and one element's room whatever the shape."""

    def __new__(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Absent:
        """Nothing of that shape. ValueError if not even an address space of 64 bits would hold it."""
        return super().__new__(cls, shape, dtype, np.zeros(1, dtype), 0, (0,) * len(shape))
