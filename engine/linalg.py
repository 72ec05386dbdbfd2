"""torch.linalg, as far as it needs no decomposition: norms and products."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import inf

from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.tensor import Tensor

Dims = int | Sequence[int] | None


def vector_norm(
    x: Tensor, ord: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """(Σ |x|ᵖ)^(1/p) over dims (all, if none is named); ±inf and 0 as in `Tensor.norm`."""
    found: Tensor = (x if dtype is None else x.cast(dtype)).norm(ord, dim, keepdim)
    return found


def matrix_norm(
    x: Tensor, ord: float | str = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False
) -> Tensor:
    """Of matrices in two dims: "fro", or the greatest (1, inf) or least (-1, -inf) sum of a column or row.

    InvalidGraph for 2, -2 and "nuc", which take singular values.
    """
    rows, columns = (place % x.ndim for place in dim)
    if ord == "fro":
        return x.norm(2, (rows, columns), keepdim)
    if ord not in (1, -1, inf, -inf):
        raise InvalidGraph(f"{ord!r} is not one of 'fro', 1, -1, inf, -inf", "matrix_norm: ord")
    summed, left = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = x.abs().sum(summed, True)
    found: Tensor = sums.amax(left, True) if ord > 0 else sums.amin(left, True)
    return found if keepdim else found.squeeze((rows, columns))


def norm(x: Tensor, ord: float | str | None = None, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """`matrix_norm` where two dims are meant and `ord` is given, else `vector_norm`."""
    if ord is None:
        return vector_norm(x, 2, dim, keepdim)
    dims = tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if len(dims) == 2:
        return matrix_norm(x, ord, dims, keepdim)
    if isinstance(ord, str):
        raise InvalidGraph(f"{ord!r} is a norm of matrices: name two dims", "norm: ord")
    return vector_norm(x, ord, dim, keepdim)


def matmul(x: Tensor, other: Tensor) -> Tensor:
    """The matrix product."""
    return x @ other


def cross(x: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The vector product along a dim of size 3."""
    return x.cross(other, dim)


def vecdot(x: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """Products along a dim, summed."""
    return (x * other).sum(dim)


def diagonal(x: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonal of two dims as a last one."""
    return x.diagonal(offset, dim1, dim2)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of matrices, from left to right."""
    return reduce(matmul, tensors)


def matrix_power(x: Tensor, n: int) -> Tensor:
    """A square matrix to the n, by squaring. InvalidGraph for n below 0, which takes an inverse."""
    if n < 0:
        raise InvalidGraph(f"{n} takes an inverse, which is not there", "matrix_power: n")
    found = Tensor.eye(x.shape[-1], dtype=x.dtype, device=x.device).expand(*x.shape)
    while n:
        found, x, n = found @ x if n & 1 else found, x @ x if n > 1 else x, n >> 1
    return found
