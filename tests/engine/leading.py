"""Comparing a function of a leading size, recorded once, with the plain one at every size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine.nested import cells_of
from engine.sizes import Var
from engine.tensor import Tensor
from engine.tracing import Jit, jit

Array = np.ndarray[Any, np.dtype[Any]]
Function = Callable[..., Any]


def rows(size: int, *shape: int, seed: int = 0) -> Array:
    """Whole numbers from -4 to 4, others for each size, as float32: sums of a few are exact in any order."""
    rng = np.random.default_rng([seed, size, *shape])
    return rng.integers(-4, 5, (size, *shape)).astype(np.float32)


def elements(result: Any) -> list[Array]:
    """What the tensors in a result hold."""
    return [cell.numpy() for cell in cells_of(result)]  # type: ignore[attr-defined]


def is_like(got: Sequence[Array], wanted: Sequence[Array], tolerance: float = 1e-5) -> None:
    """The same shapes and dtypes, and the same values but for the order that sums are made in."""
    assert [(a.shape, a.dtype) for a in got] == [(b.shape, b.dtype) for b in wanted]
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def poisoned(fast: Jit[..., Any], value: float) -> None:
    """Fill with `value` all memory that a plan keeps between calls: what lies behind a call's rows may be anything."""
    (plan,) = fast.plans
    kept = [array for laid in plan._laid_out for array in laid.values()]
    kept += [frame.slab for frame in getattr(plan._run, "_free", [])]
    for array in kept:
        if array.dtype == np.uint8:
            whole = array[: len(array) // 4 * 4].view(np.float32)
            whole.fill(value)
        elif array.dtype.kind == "f":
            array.fill(value)
        elif array.dtype.kind in "iu":
            array.fill(np.iinfo(array.dtype).max)


@contextmanager
def by_default(device: str) -> Iterator[None]:
    """Let new tensors be on `device`."""
    before = dict(os.environ)
    os.environ["DEV"] = device
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def same_at_every_size(
    function: Function,
    tensors: Callable[[int], Mapping[str, Array]],
    var: Var,
    sizes: Iterable[int],
    poison: float = float("nan"),
    tolerance: float = 1e-5,
    plainly: str | None = None,
) -> Jit[..., Any]:
    """The function of leading sizes, which does what the plain one does at all `sizes`, by one plan.

    The plain one runs on the device `plainly`, if one is given: then the function may have no tensors of its own.
    """
    fast = jit(function, leading=dict.fromkeys(tensors(var.min), var))
    for size in sizes:
        given = tensors(size)
        got = elements(fast(**{name: Tensor(array) for name, array in given.items()}))
        with by_default(plainly or os.environ["DEV"]):
            wanted = elements(function(**{name: Tensor(array) for name, array in given.items()}))
        is_like(got, wanted, tolerance)
        if fast.plans:
            poisoned(fast, poison)
    assert len(fast.plans) == 1
    return fast
