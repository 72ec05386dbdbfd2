"""The definition of every op against PyTorch, on the dtypes that both compute in and where both define a result.

Run it with a Python that has PyTorch, from the root: `python -m tests.peers.meaning`. Prints how many elements of each
op were compared, and fails on the first that is neither equal nor, for functions and sums, within a few units in the
last place. Left out is what PyTorch leaves open: integers divided by 0, shifts by the width, floats beyond an integer's
range, duplicates in a scatter that sets; and what 8-bit floats without an infinity do beyond their range.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

from engine import build
from engine import dtype as dt
from engine.build import elementwise, param
from engine.dtype import DTYPES, DType
from engine.ir import UOp
from engine.kernel import Kernel
from engine.ops import Op
from engine.runtime.interp import evaluate
from tests.exact import special_values

Array = np.ndarray
SIGNED = (dt.int8, dt.int16, dt.int32, dt.int64)
INTS = (*SIGNED, dt.uint8)
FLOATS = (dt.float16, dt.bfloat16, dt.float32, dt.float64)
ULPS = 4.0
Case = tuple[str, UOp, list[Array], Callable[..., torch.Tensor]]


def tensor(array: Array) -> torch.Tensor:
    """The array as PyTorch's, by its bits where NumPy has no such dtype itself."""
    kind = getattr(torch, array.dtype.name)
    if array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat", "float8")):
        bits = np.ascontiguousarray(array).view(f"i{array.dtype.itemsize}")
        return torch.from_numpy(bits.copy()).view(kind)
    return torch.from_numpy(np.ascontiguousarray(array).copy())


def values(dtype: DType, seed: int = 0) -> Array:
    """The special values and some usual ones."""
    rng = np.random.default_rng(seed)
    if dtype is dt.bool_:
        return np.array([False, True])
    usual = rng.standard_normal(20) * 3 if dtype.is_float else rng.integers(dtype.low < 0 and -99, 100, 20)
    return np.concatenate((special_values(dtype), usual.astype(dtype.numpy)))


def grid(*arrays: Array) -> list[Array]:
    return [np.ascontiguousarray(a.ravel()) for a in np.meshgrid(*arrays, indexing="ij")]


def computed(op: Op, dtype: DType, inputs: list[Array], peer: Callable[..., torch.Tensor]) -> Case:
    params = [param(i, a.shape, dt.from_numpy(a.dtype)) for i, a in enumerate(inputs)]
    node = UOp(op, dtype, tuple(params)) if op in (Op.CAST, Op.BITCAST) else elementwise(op, *params)
    return f"{op.value} {dt.from_numpy(inputs[0].dtype).name} {dtype.name}", node, inputs, peer


UNARY: dict[Op, Callable[..., torch.Tensor]] = {
    Op.NEG: torch.neg,
    Op.EXP: torch.exp,
    Op.LOG: torch.log,
    Op.SQRT: torch.sqrt,
    Op.SIN: torch.sin,
    Op.TRUNC: torch.trunc,
}
ANY: dict[Op, Callable[..., torch.Tensor]] = {
    Op.ADD: torch.add,
    Op.SUB: torch.sub,
    Op.MUL: torch.mul,
    Op.MAX: torch.maximum,
    Op.MIN: torch.minimum,
    Op.LT: torch.lt,
    Op.EQ: torch.eq,
    Op.NE: torch.ne,
}
BITS: dict[Op, Callable[..., torch.Tensor]] = {
    Op.AND: torch.bitwise_and,
    Op.OR: torch.bitwise_or,
    Op.XOR: torch.bitwise_xor,
}


def _dividing(dtype: DType) -> list[Array]:
    """Pairs whose quotient is a number: beyond it PyTorch's lanes, which compute it, give NaN for the remainder."""
    a, b = grid(values(dtype), values(dtype, 1))
    wide = np.float64 if dtype is dt.float64 else np.float32
    with np.errstate(all="ignore"):
        quotient = a.astype(wide) / b.astype(wide)
        open_ = np.isinf(quotient) & np.isfinite(a.astype(wide)) & (b.astype(wide) != 0)
    return [a[~open_], b[~open_]]


def elementwise_cases() -> Iterator[Case]:
    for dtype in (*INTS, *FLOATS):
        pair = grid(values(dtype), values(dtype, 1))
        for op, peer in ANY.items():
            yield computed(op, dt.bool_ if op in (Op.LT, Op.EQ, Op.NE) else dtype, pair, peer)
        yield computed(
            Op.WHERE, dtype, grid(np.array([True, False]), values(dtype), values(dtype, 1)), torch.where
        )
    for dtype in FLOATS:
        for op, peer in UNARY.items():
            yield computed(op, dtype, [values(dtype)], peer)
        yield computed(Op.DIV, dtype, grid(values(dtype), values(dtype, 1)), torch.div)
        yield computed(Op.FMOD, dtype, _dividing(dtype), torch.fmod)
    for dtype in (dt.bool_, *INTS):
        for op, peer in BITS.items():
            yield computed(op, dtype, grid(values(dtype), values(dtype, 1)), peer)
        yield computed(Op.NOT, dtype, [values(dtype)], torch.bitwise_not)
    for dtype in INTS:
        a, b = grid(values(dtype), values(dtype, 1))
        divides = (b != 0) & ~((b.astype(np.int64) == -1) & (a == dtype.low))
        fits = (b >= 0) & (b < dtype.bits)
        for op, peer in ((Op.IDIV, torch.floor_divide), (Op.MOD, torch.remainder)):
            yield computed(op, dtype, [a[divides], b[divides]], peer)
        for op, peer in ((Op.SHL, torch.bitwise_left_shift), (Op.SHR, torch.bitwise_right_shift)):
            yield computed(op, dtype, [a[fits], b[fits]], peer)


def conversion_cases() -> Iterator[Case]:
    for source in (dt.bool_, *INTS, *FLOATS, dt.float8_e4m3fn, dt.float8_e5m2):
        for target in (dt.bool_, *INTS, *FLOATS, dt.float8_e4m3fn, dt.float8_e5m2):
            x = values(source)
            if source.is_float and target.is_int:
                wide = x.astype(np.float64)
                x = x[(wide > max(target.low, -(1 << 53))) & (wide < min(target.high, 1 << 53))]
            if source.is_int and target.is_float:
                x = x[np.abs(x.astype(np.float64)) < 1 << 24]  # PyTorch goes by way of float32
            if target is dt.float8_e4m3fn:
                x = x[
                    ~(np.abs(x.astype(np.float64)) > 448)
                ]  # PyTorch saturates; here it is NaN, as in ml_dtypes
            kind = getattr(torch, target.name)
            yield computed(Op.CAST, target, [x], lambda t, kind=kind: t.to(kind))
    for source in (*INTS, *FLOATS):
        for target in (*INTS, *FLOATS):
            if source.itemsize == target.itemsize:
                kind = getattr(torch, target.name)
                yield computed(Op.BITCAST, target, [values(source)], lambda t, kind=kind: t.view(kind))


def moved_cases() -> Iterator[Case]:
    rng = np.random.default_rng(3)
    for dtype in (dt.bool_, *INTS, *FLOATS):
        array = np.resize(values(dtype), (4, 6))
        x = param(0, (4, 6), dtype)
        name = dtype.name
        yield f"FLIP {name}", build.flip(x, (0, 1)), [array], lambda t: t.flip(0, 1)
        yield f"PERMUTE {name}", build.permute(x, (1, 0)), [array], lambda t: t.permute(1, 0)
        yield f"RESHAPE {name}", build.reshape(x, (3, 8)), [array], lambda t: t.reshape(3, 8)
        yield f"SHRINK {name}", build.shrink(x, [(1, 4, 2), (0, 5, 3)]), [array], lambda t: t[1:4:2, 0:5:3]
        yield (
            f"PAD {name}",
            build.pad(x, [(1, 2, 0), (0, 3, 0)]),
            [array],
            lambda t: torch.nn.functional.pad(t, (0, 3, 1, 2)),
        )
        index = rng.integers(0, 4, (7, 6))
        yield (
            f"GATHER {name}",
            build.gather(x, param(1, (7, 6), dt.int64), 0),
            [array, index],
            lambda t, i: torch.gather(t, 0, i),
        )
        once = np.stack([rng.permutation(4)[:3] for _ in range(6)], axis=1)
        updates = np.resize(values(dtype, 5)[::-1], (3, 6))
        params = (param(1, (3, 6), dt.int64), param(2, (3, 6), dtype))
        yield (
            f"SCATTER set {name}",
            build.scatter(x, *params, 0, "set"),
            [array, once, updates],
            lambda t, i, u: t.scatter(0, i, u),
        )
        if dtype is not dt.bool_:
            twice = rng.integers(0, 4, (3, 6))
            yield (
                f"SCATTER add {name}",
                build.scatter(x, *params, 0, "add"),
                [array, twice, updates],
                lambda t, i, u: t.scatter_add(0, i, u),
            )
            yield (
                f"SCATTER max {name}",
                build.scatter(x, *params, 0, "max"),
                [array, twice, updates],
                lambda t, i, u: t.scatter_reduce(0, i, u, "amax"),
            )
            yield from _reductions(dtype)


def _reductions(dtype: DType) -> Iterator[Case]:
    rng = np.random.default_rng(7)
    array = np.stack([np.resize(np.roll(values(dtype), k), 9) for k in range(len(values(dtype)))])
    if dtype.is_float:  # of sums that overflow or cancel nothing is agreed
        array = np.concatenate((np.clip(rng.standard_normal((9, 9)), -2, 2).astype(dtype.numpy), array[:0]))
    x, name, kind = param(0, array.shape, dtype), dtype.name, getattr(torch, dtype.name)
    yield f"REDUCE ADD {name}", build.reduce(Op.ADD, x, (1,)), [array], lambda t: t.sum(1, dtype=kind)
    yield f"REDUCE MUL {name}", build.reduce(Op.MUL, x, (1,)), [array], lambda t: t.prod(1, dtype=kind)
    yield f"REDUCE MAX {name}", build.reduce(Op.MAX, x, (1,)), [array], lambda t: t.amax(1)
    yield f"REDUCE MIN {name}", build.reduce(Op.MIN, x, (1,)), [array], lambda t: t.amin(1)


BOUNDED = ("EXP", "LOG", "SIN", "SQRT", "REDUCE ADD", "REDUCE MUL", "SCATTER add")


def compare(case: Case) -> int:
    """How many elements were compared; SystemExit names one that is not as PyTorch's."""
    name, node, inputs, peer = case
    dtype = node.dtype
    with np.errstate(all="ignore"):
        got = evaluate(Kernel(node), inputs).astype(np.float64 if dtype.is_float else dtype.numpy)
        found = peer(*map(tensor, inputs))
        wanted = found.to(torch.float64).numpy() if dtype.is_float else found.numpy()
        equal = (got == wanted) | (np.isnan(got) & np.isnan(wanted) if dtype.is_float else False)
        if name.startswith(BOUNDED) and dtype.is_float:
            unit = 2.0**-dtype.mantissa * np.maximum(
                np.abs(wanted), 1.0 if "REDUCE" in name or "SCATTER" in name else 0.0
            )
            equal |= np.abs(got - wanted) <= ULPS * unit
    if not equal.all():
        place = tuple(np.argwhere(~equal)[0])
        of = [str(a[place]) for a in inputs if a.shape == got.shape]
        sys.exit(f"{name} of {', '.join(of)} is {got[place]}, PyTorch gives {wanted[place]}")
    return int(got.size)


def main() -> None:
    counts: dict[str, int] = {}
    for cases in (elementwise_cases(), conversion_cases(), moved_cases()):
        for case in cases:
            op = " ".join(word for word in case[0].split() if word not in DTYPES)
            counts[op] = counts.get(op, 0) + compare(case)
    print(
        f"{len(counts)} ops as PyTorch's",
        *(f"{n:>7} elements {op}" for op, n in sorted(counts.items())),
        sep="\n",
    )


if __name__ == "__main__":
    main()
