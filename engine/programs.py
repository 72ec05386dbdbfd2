"""The named programs, what a kernel costs at least, and reproducible inputs for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from engine import dtype as dt
from engine.build import const, elementwise, matmul, param, reduce
from engine.dtype import DTYPES, DType
from engine.errors import InvalidGraph
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.shapes import Shape, counted, shape_of

Array = np.ndarray[Any, np.dtype[Any]]


def _gemm(shape: Shape, dtype: DType) -> UOp:
    m, n, k = shape
    return matmul(param(0, (m, k), dtype), param(1, (k, n), dtype))


def _reduce(shape: Shape, dtype: DType) -> UOp:
    return reduce(Op.ADD, param(0, shape, dtype), (1,))


def _copy(shape: Shape, dtype: DType) -> UOp:
    return param(0, shape, dtype)


def _elementwise(shape: Shape, dtype: DType) -> UOp:
    a, b = param(0, shape, dtype), param(1, shape, dtype)
    total = elementwise(Op.ADD, elementwise(Op.MUL, a, b), a)
    return elementwise(Op.MAX, total, const(0, dtype, shape))


# name → (what builds it, how many sizes its shape has; None: any number of 1 or more)
PROGRAMS: dict[str, tuple[Callable[[Shape, DType], UOp], int | None]] = {
    "gemm": (_gemm, 3),  # [M, N, K]: (M, K) @ (K, N)
    "reduce": (_reduce, 2),  # [rows, columns]: sum over columns
    "copy": (_copy, None),  # out = a
    "elementwise": (_elementwise, None),  # out = max(a * b + a, 0)
}


def program(name: str, shape: Sequence[int], dtype: str | DType = dt.float32) -> Kernel:
    """The kernel of a named program. InvalidGraph names the field (program, shape, dtype) that is wrong.

    Sums stay in `dtype`: a gemm or reduce of int32 wraps in int32.
    """
    found = PROGRAMS.get(name)
    if found is None:
        raise InvalidGraph(f"unknown program {name!r}; there are {', '.join(PROGRAMS)}", "program")
    build, axes = found
    if any(type(n) is not int or n < 0 for n in shape) or not shape:
        raise InvalidGraph(f"{list(shape)} must be sizes of 0 or more", "shape")
    if axes is not None and len(shape) != axes:
        raise InvalidGraph(f"program {name} takes {axes} sizes, got {len(shape)}", "shape")
    return Kernel(build(counted(tuple(shape), "shape"), _number_type(dtype)))


def _number_type(dtype: str | DType) -> DType:
    found = DTYPES.get(dtype if isinstance(dtype, str) else dtype.name)
    if found is None or found is dt.bool_ or found.is_storage:
        numbers = [name for name, d in DTYPES.items() if d is not dt.bool_ and not d.is_storage]
        raise InvalidGraph(f"{dtype!r} must be one of {', '.join(numbers)}", "dtype")
    return found


@dataclass(frozen=True, slots=True)
class Cost:
    """What a kernel does at least: arithmetic operations, bytes moved once, and elements reduced to one."""

    flops: float
    bytes: float
    reduction: int


ARITHMETIC = frozenset(
    {
        Op.NEG,
        Op.EXP,
        Op.LOG,
        Op.SQRT,
        Op.SIN,
        Op.ADD,
        Op.SUB,
        Op.MUL,
        Op.DIV,
        Op.IDIV,
        Op.MOD,
        Op.FMOD,
        Op.MAX,
        Op.MIN,
    }
)


def cost(kernel: Kernel) -> Cost:
    """The kernel's cost: 2·M·N·K operations and M·K + K·N + M·N elements for a gemm.

    An operation counts once for each element of its result, a REDUCE once for each element it reads;
    comparisons, choices, bit operations and casts are not counted. Every input is read once.
    """
    order = toposort(kernel.output)
    flops = sum(prod(shape_of(node)) for node in order if node.op in ARITHMETIC)
    flops += sum(prod(shape_of(node.src[0])) for node in order if node.op is Op.REDUCE)
    moved = sum(prod(shape_of(node)) * node.dtype.itemsize for node in (*kernel.params, kernel.output))
    return Cost(float(flops), float(moved), max(map(_reduction, kernel.reduces), default=1))


def _reduction(node: UOp) -> int:
    return prod(shape_of(node.src[0])[axis] for axis in node.arg[1])


def random_inputs(kernel: Kernel, seed: int, integers: bool = False) -> list[Array]:
    """One C-contiguous array for each slot, the same for the same kernel and seed.

    Floats are normal with standard deviation 1, integers uniform from -1000 to 1000 (8 bits: what of that they
    hold; unsigned: from 0). With `integers` all numbers are whole, from -4 to 4: sums of them are exact in float32, so that results compare bit for bit.
    """
    return [_random(node, seed, integers) for node in kernel.params]


def _random(node: UOp, seed: int, integers: bool) -> Array:
    slot, shape = node.arg
    generator = np.random.Generator(np.random.PCG64([seed, slot]))
    values: Array
    if node.dtype.is_float and not integers:
        values = generator.standard_normal(shape, dtype=np.float32)
    else:
        high = 1 if node.dtype is dt.bool_ else 4 if integers else 1000
        low = -high if node.dtype.is_float or node.dtype.low < 0 else 0
        values = generator.integers(low, high, shape, endpoint=True)
    return values.astype(node.dtype.numpy, copy=False)
