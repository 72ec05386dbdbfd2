"""Reading what users pass to Tensor: shapes, axes, numbers and data. Errors name the argument and what fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from math import prod
from typing import Any, ParamSpec, TypeVar

import numpy as np

from engine import dtype as dt
from engine.bounds import limits
from engine.build import Scalar, const
from engine.cell import Cell
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.realize import Array, hold
from engine.shapes import Shape, counted
from engine.sizes import Size, is_number, is_open

P = ParamSpec("P")
R = TypeVar("R")

Axes = int | Sequence[int] | None


def integers(values: tuple[Any, ...], name: str) -> tuple[int, ...]:
    """(2, 3) from either `f(2, 3)` or `f((2, 3))`; TypeError names the argument and its place."""
    if len(values) == 1 and isinstance(values[0], Sequence) and not isinstance(values[0], str):
        values = tuple(values[0])
    for place, value in enumerate(values):
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer | Size):
            raise TypeError(f"{name}[{place}] must be an integer, not {value!r}")
    return tuple(value if is_open(value) else int(value) for value in values)


def numbers(value: Any, name: str = "axes") -> tuple[int, ...]:
    """One integer or several, as a tuple."""
    return integers((value,), name)


def pairs(padding: Sequence[Any], ndim: int) -> list[tuple[int, int]]:
    """(low, high) for each axis, from pairs (None for none) or from flat numbers, the last axis first."""
    if padding and all(entry is None or isinstance(entry, Sequence) for entry in padding):
        given = [(0, 0) if entry is None else integers((entry,), "padding") for entry in padding]
        if len(given) != ndim or any(len(entry) != 2 for entry in given):
            raise InvalidGraph(f"{padding} is not a pair for each of the {ndim} axes", "padding")
        return [(low, high) for low, high in given]
    flat = integers((tuple(padding),), "padding")
    if len(flat) % 2 or len(flat) > 2 * ndim:
        raise InvalidGraph(f"{len(flat)} numbers are not pairs for at most {ndim} axes", "padding")
    named = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]
    return [*[(0, 0)] * (ndim - len(named)), *reversed(named)]


def sizes(values: tuple[Any, ...]) -> Shape:
    """The shape of a new tensor from `f(2, 3)` or `f((2, 3))`; InvalidGraph for a negative size."""
    shape = integers(values, "shape")
    if any(n < 0 for n in shape):
        raise InvalidGraph(f"{shape} has a negative size", "shape")
    return shape if any(map(is_open, shape)) else counted(shape, "shape")


def inferred(shape: Shape, old: Shape) -> Shape:
    """`shape` with its one -1, if any, replaced by whatever is left of `old`'s elements."""
    if shape.count(-1) == 0:
        return shape
    known = prod(n for n in shape if n != -1)
    if shape.count(-1) > 1 or known == 0 or prod(old) % known:
        raise InvalidGraph(f"cannot find the -1 of {shape} for the {prod(old)} elements of {old}", "reshape")
    return tuple(prod(old) // known if n == -1 else n for n in shape)


def takes_dim(method: Callable[P, R]) -> Callable[P, R]:
    """`method` with PyTorch's `dim` as another name for `axis`."""

    @wraps(method)
    def renamed(*args: P.args, **kwargs: P.kwargs) -> R:
        if "dim" in kwargs:
            kwargs["axis"] = kwargs.pop("dim")
        return method(*args, **kwargs)

    return renamed


def takes_unbiased(method: Callable[P, R]) -> Callable[P, R]:
    """`method` with PyTorch's `unbiased` for a `correction` of 1 or 0; a bool first is that, as it is no axis."""

    @wraps(method)
    def corrected(*args: P.args, **kwargs: P.kwargs) -> R:
        given: list[Any] = list(args)
        for place in (1, 2):
            if len(given) > place and isinstance(given[place], bool):
                kwargs["unbiased"] = given.pop(place)
                if len(given) > place:  # keepdim stands behind it
                    kwargs["keepdim"] = given.pop(place)
                break
        if "unbiased" in kwargs:
            kwargs["correction"] = int(bool(kwargs.pop("unbiased")))
        return method(*given, **kwargs)

    return corrected


def axis_of(axis: int, ndim: int) -> int:
    """An axis counted from the front; IndexError when there is none such, TypeError when it is no integer."""
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise TypeError(f"axis must be an integer, not {axis!r}")
    if not -ndim <= axis < ndim:
        raise IndexError(f"axis {axis} does not exist: there are {ndim} axes")
    return int(axis) % ndim


def axes_of(axis: Axes, ndim: int) -> tuple[int, ...]:
    """Distinct axes counted from the front, in order; None means all. Of no axes 0 and -1 are none, as in PyTorch."""
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    if ndim == 0 and all(a in (0, -1) for a in given):
        return ()
    found = sorted(axis_of(a, ndim) for a in given)
    if len(set(found)) != len(found):
        raise ValueError(f"axis {axis} names an axis twice")
    return tuple(found)


def python_type(value: Scalar) -> DType:
    """The dtype a Python number has by itself: bool, int64 or float32."""
    return dt.bool_ if isinstance(value, bool) else dt.int64 if isinstance(value, int | Size) else dt.float32


def constant(value: Scalar, dtype: DType, shape: Shape) -> UOp:
    """A constant; ValueError for an integer that `dtype` cannot hold."""
    if dt.checked(dtype).is_int:
        low, high = limits(dtype)
        if not low <= value <= high:
            raise ValueError(f"{value} does not fit {dtype.name}")
    return const(value, dtype, shape)


def data_node(data: Any, dtype: DType | None) -> UOp:
    """A node for a number, nested lists or a NumPy array; ValueError for a dtype the engine has not."""
    if is_number(data):
        return constant(data, dtype or python_type(data), ())
    return hold(_array(data, dtype))


def _elements(data: Any) -> Any:
    """Tensors as arrays, in nested lists too."""
    if isinstance(data, list | tuple):
        return [_elements(one) for one in data]
    return np.asarray(data) if isinstance(data, Cell) else data


def _refuse_overflow(data: Any, array: Array, dtype: DType) -> None:
    """ValueError for a Python number that an integer dtype cannot hold; arrays wrap, as NumPy's own casts do."""
    if (
        not dt.checked(dtype).is_int
        or isinstance(data, np.ndarray | np.generic)
        or array.dtype.kind not in "iuO"
    ):
        return
    low, high = limits(dtype)
    wrong = array[(array < low) | (array > high)]
    if wrong.size:
        raise ValueError(f"{wrong.flat[0]} does not fit {dtype.name}, which holds {low} to {high}")


def _first(data: Any) -> Any:
    """The first thing in nested lists; a list if there is none."""
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return data


def _array(data: Any, dtype: DType | None) -> Array:
    first = _first(data)
    if isinstance(first, Cell):  # tensors in a list: NumPy would ask each for a float
        data = [_elements(one) for one in data] if isinstance(data, list | tuple) else data
        first = _first(data)
    array: Array = np.asarray(data)
    if dtype is not None:
        _refuse_overflow(data, array, dtype)
        return array.astype(dt.checked(dtype).numpy)
    if array.dtype == np.float64 and getattr(first, "dtype", None) != np.float64:
        return array.astype(np.float32)
    if array.dtype.name not in dt.DTYPES:
        raise ValueError(
            f"dtype {array.dtype} is not supported; pass dtype= one of {', '.join(dt.DTYPES)} to convert"
        )
    return array
