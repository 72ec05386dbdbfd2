"""Random tensors."""

from __future__ import annotations

from typing import Self

import numpy as np

from engine.arguments import generator, sizes
from engine.tensor.value import Value


class Randomness(Value):
    """Constructors of random numbers."""

    __slots__ = ()

    @classmethod
    def rand(cls, *shape: int, seed: int | None = None, device: str | None = None) -> Self:
        """Uniform float32 from [0, 1); the same for the same seed, different each time without one."""
        return cls(generator(seed).random(sizes(shape), dtype=np.float32), device=device)

    @classmethod
    def randn(cls, *shape: int, seed: int | None = None, device: str | None = None) -> Self:
        """Normal float32 of mean 0 and standard deviation 1; the same for the same seed."""
        return cls(generator(seed).standard_normal(sizes(shape), dtype=np.float32), device=device)
