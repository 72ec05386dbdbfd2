"""The value of a graph by plain NumPy on whole arrays, and how far from it a backend's answer may lie.

With each element goes a bound of its error: what rounding every op to its dtype, in any order of a sum, can come
to. 0 means that all must agree to the bit; infinity, that nothing is known: a comparison of two numbers nearer to
each other than their errors, or an overflow that is one only in the narrower type. Nothing here is the engine's but
the graph itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine import dtype as dt
from engine.dtype import DType
from engine.ir import UOp
from engine.ops import COMPARE, ELEMENTWISE, HoleKind, Op
from engine.shapes import shape_of
from tests.exact import nearest, nearest_array, top

Array = np.ndarray[Any, np.dtype[Any]]


class Approx(NamedTuple):
    """`value` (floats as float64) and, for each element, how far off an answer may be (see the module)."""

    value: Array
    error: Array

    @property
    def known(self) -> Array:
        """Where anything is known at all."""
        return np.isfinite(self.error)


def exact(value: Array) -> Approx:
    """Values without any error."""
    return Approx(value, np.zeros(np.shape(value)))


def by_numpy(root: UOp, arrays: Mapping[UOp, Array]) -> Approx:
    """The root's value, from the values of its leaves."""
    given = {node: exact(_wide(array, node.dtype)) for node, array in arrays.items()}
    return evaluate(root, given)


def _wide(array: Array, dtype: DType) -> Array:
    with np.errstate(all="ignore"):
        return array.astype(np.float64) if dtype.is_float else array


def evaluate(root: UOp, known: dict[UOp, Approx]) -> Approx:
    """The root's value; `known` holds values of some nodes and gets those of all others that were needed."""
    stack = [root]
    with np.errstate(all="ignore"):
        while stack:
            node = stack[-1]
            if node in known:
                stack.pop()
                continue
            # The bodies of a FOLD are evaluated step by step.
            src = node.src[: -node.arg[2]] if node.op is Op.FOLD else node.src
            missing = [s for s in src if s not in known]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            _visit(node, known)
    return known[root]


def _visit(node: UOp, known: dict[UOp, Approx]) -> None:
    if node.op is Op.FOLD:
        known[node] = exact(np.zeros(()))
        for number, state in enumerate(_fold(node, known)):
            known[UOp(Op.GET, node.src[number].dtype, (node,), number)] = state
    elif node not in known:
        known[node] = _value(node, [known[s] for s in node.src])


def _fold(node: UOp, known: Mapping[UOp, Approx]) -> list[Approx]:
    number, steps, count = node.arg
    states, xs = [known[s] for s in node.src[:count]], [known[s] for s in node.src[count:-count]]
    for step in range(steps):
        holes = {(HoleKind.STEP, 0): exact(np.asarray(step, np.int64))}
        holes |= {(HoleKind.STATE, i): state for i, state in enumerate(states)}
        holes |= {(HoleKind.X, i): Approx(x.value[step], x.error[step]) for i, x in enumerate(xs)}
        inside: dict[UOp, Approx] = {n: v for n, v in known.items() if n.op is Op.HOLE}
        for (kind, i), value in holes.items():
            inside[UOp(Op.HOLE, _hole_dtype(node, kind, i), (), (number, kind, i, value.value.shape))] = value
        states = [evaluate(body, inside) for body in node.src[-count:]]
    return states


def _hole_dtype(node: UOp, kind: HoleKind, number: int) -> DType:
    if kind is HoleKind.STEP:
        return dt.int64
    return node.src[number if kind is HoleKind.STATE else node.arg[2] + number].dtype


def _value(node: UOp, src: list[Approx]) -> Approx:
    if node.op in MOVES:
        # What moves the values moves their errors.
        return Approx(MOVES[node.op](node, src[0].value), MOVES[node.op](node, src[0].error))
    match node.op:
        case Op.CONST:
            return exact(np.asarray(node.arg, np.float64 if node.dtype.is_float else node.dtype.numpy))
        case Op.IOTA:
            return exact(np.arange(node.arg, dtype=np.int64))
        case Op.REDUCE:
            return _reduce(node, src[0])
        case Op.GATHER:
            return _gather(*src, axis=node.arg)
        case Op.SCATTER:
            return _scatter(node, *src)
    assert node.op in ELEMENTWISE, node.op
    return elementwise(node.op, node.dtype, node.src[-1].dtype, src)


# ------------------------------------------------------------------------------------------- element by element


def elementwise(op: Op, dtype: DType, source: DType, src: Sequence[Approx]) -> Approx:
    """An element-wise op that gives `dtype`; the last source is of `source`."""
    if op is Op.CAST:
        return _cast(src[0], source, dtype)
    if op is Op.BITCAST:
        return _bitcast(src[0], source, dtype)
    if op is Op.WHERE:
        error = np.where(src[0].value, src[1].error, src[2].error)
        return Approx(np.where(*(s.value for s in src)), np.maximum(error, src[0].error))
    value = NUMPY[op](*(s.value for s in src))
    if op in COMPARE and source.is_float:
        return Approx(value, np.where(_is_certain(*src), 0, np.inf))
    if not source.is_float:
        error = np.zeros(np.shape(value))
        for s in src:
            error = np.maximum(error, s.error)
        return Approx(np.asarray(value), error)
    return Approx(np.asarray(value), _float_error(op, dtype, src, np.asarray(value)))


def _is_certain(a: Approx, b: Approx) -> Array:
    """Does every value within the errors compare alike?"""
    both = a.error + b.error
    nan = (np.isnan(a.value) & (a.error == 0)) | (np.isnan(b.value) & (b.error == 0))
    return (both == 0) | (np.abs(a.value - b.value) > both) | (nan & np.isfinite(both))


def roundoff(dtype: DType) -> float:
    """The largest relative error of rounding to a float type."""
    return float(2.0 ** -(dtype.mantissa + 1))


def denormal(dtype: DType) -> float:
    """The least positive number of a float type."""
    return max(float(2.0 ** (2 - (1 << (dtype.exponent - 1)) - dtype.mantissa)), 5e-324)


# Ops that round nothing; roundings of the others (one and a bit for those that IEEE defines).
UNROUNDED = (Op.NEG, Op.MAX, Op.MIN, Op.TRUNC, Op.FMOD)
FUNCTIONS = (Op.EXP, Op.LOG, Op.SIN)
ROUNDINGS = dict.fromkeys(FUNCTIONS, 8.0)


def _float_error(op: Op, dtype: DType, src: Sequence[Approx], value: Array) -> Array:
    inputs_exact = np.ones(value.shape, bool)
    for s in src:
        inputs_exact &= s.error == 0
    error = np.where(inputs_exact, 0.0, _spread(op, src, value))
    if op not in UNROUNDED:
        error = error + ROUNDINGS.get(op, 1.5) * roundoff(dtype) * np.abs(value) + denormal(dtype)
        if op in (Op.SIN, Op.LOG):
            error = error + 2 * roundoff(dtype) * np.minimum(np.abs(src[0].value), 1)
        if op not in FUNCTIONS:
            error = np.where(inputs_exact & _fits(value, dtype), 0.0, error)
    error = np.where(np.isfinite(value) & (np.abs(value) + error > top(dtype)), np.inf, error)
    settled = np.where(inputs_exact, 0.0, np.inf)
    if op is Op.DIV:  # the sign of a zero is not certain
        settled = np.where(src[1].value == 0, np.inf, settled)
    for s in src:
        settled = np.where(np.isnan(s.value) & (s.error == 0), 0.0, settled)
    if op is Op.DIV:
        settled = np.where(inputs_exact & np.isnan(value), 0.0, settled)
    error = np.where(np.isfinite(value), error, settled)
    for s in src:
        error = np.where(np.isinf(s.error), np.inf, error)
    return np.where(np.isnan(error), np.inf, error)


def _fits(value: Array, dtype: DType) -> Array:
    """Is it a number of the type, and of few enough bits that no backend sees another?"""
    narrow = dt.float32 if dtype is dt.float64 else dtype
    return np.isfinite(value) & (nearest_array(value, narrow) == value)


def _spread(op: Op, src: Sequence[Approx], value: Array) -> Array:
    """How far off the result is when the sources are."""
    a, ea = src[0]
    size = np.abs(a)
    match op:
        case Op.NEG | Op.SIN:
            return ea
        case Op.EXP:
            return np.abs(value) * np.expm1(ea)
        case Op.LOG:
            return np.where(a > ea, ea / (size - ea), np.inf)
        case Op.SQRT:
            return np.where(a > ea, ea / np.sqrt(size), np.inf)
        case Op.TRUNC:
            return np.where(np.trunc(a - ea) == np.trunc(a + ea), 0, np.inf)
    b, eb = src[1]
    if op is Op.MUL:
        return size * eb + np.abs(b) * ea + ea * eb
    if op is Op.DIV:
        return np.where(np.abs(b) > eb, (ea + np.abs(value) * eb) / (np.abs(b) - eb), np.inf)
    if op is Op.FMOD:
        low, high = np.trunc((a - ea) / b), np.trunc((a + ea) / b)
        return np.where((eb == 0) & (low == high) & (np.abs(low) < 2.0**40), ea, np.inf)
    return np.maximum(ea, eb) if op in (Op.MAX, Op.MIN) else ea + eb


def _shift_left(a: Array, b: Array) -> Array:
    return np.where((b >= 0) & (b < 8 * a.itemsize), a << (b & (8 * a.itemsize - 1)), np.zeros_like(a))


def _shift_right(a: Array, b: Array) -> Array:
    beyond = np.where(a < 0, ~np.zeros_like(a), np.zeros_like(a))
    return np.where((b >= 0) & (b < 8 * a.itemsize), a >> (b & (8 * a.itemsize - 1)), beyond)


NUMPY: dict[Op, Callable[..., Array]] = {
    Op.NEG: lambda a: -a,
    Op.EXP: np.exp,
    Op.LOG: np.log,
    Op.SQRT: np.sqrt,
    Op.SIN: np.sin,
    Op.TRUNC: np.trunc,
    Op.NOT: lambda a: ~a,
    Op.ADD: lambda a, b: a + b,
    Op.SUB: lambda a, b: a - b,
    Op.MUL: lambda a, b: a * b,
    Op.DIV: lambda a, b: a / b,
    Op.IDIV: lambda a, b: a // b,
    Op.MOD: lambda a, b: a % b,
    Op.FMOD: np.fmod,
    Op.MAX: np.maximum,
    Op.MIN: np.minimum,
    Op.LT: lambda a, b: a < b,
    Op.EQ: lambda a, b: a == b,
    Op.NE: lambda a, b: a != b,
    Op.AND: lambda a, b: a & b,
    Op.OR: lambda a, b: a | b,
    Op.XOR: lambda a, b: a ^ b,
    Op.SHL: _shift_left,
    Op.SHR: _shift_right,
    Op.WHERE: np.where,
}


def _cast(x: Approx, source: DType, dtype: DType) -> Approx:
    if not source.is_float:
        return Approx(_from_integer(x.value, dtype), x.error)
    if dtype is dt.bool_:
        certain = (x.error == 0) | (np.abs(x.value) > x.error)
        return Approx(x.value != 0, np.where(certain & x.known, 0, np.inf))
    if dtype.is_int:
        low, high = _saturated(x.value - x.error, dtype), _saturated(x.value + x.error, dtype)
        certain = (x.error == 0) | (x.known & (low == high))
        return Approx(_saturated(x.value, dtype), np.where(certain, 0, np.inf))
    value = nearest_array(x.value, dtype)
    error = x.error + 2 * roundoff(dtype) * np.abs(x.value) + denormal(dtype)
    error = np.where(np.abs(x.value) + error > top(dtype), np.inf, error)
    return Approx(value, np.where(x.error == 0, 0.0, np.where(np.isnan(error), np.inf, error)))


def _from_integer(value: Array, dtype: DType) -> Array:
    if dtype is dt.bool_:
        return value != 0
    if not dtype.is_float:
        return value.astype(dtype.numpy)
    if value.dtype.itemsize < 8:
        return nearest_array(value.astype(np.float64), dtype)
    each = [float(nearest(number, dtype)) for number in value.ravel().tolist()]
    return np.array(each, np.float64).reshape(value.shape)


def _saturated(value: Array, dtype: DType) -> Array:
    inside = (value > float(dtype.low) - 1) & (value < float(dtype.high))
    inside &= (value >= float(dtype.low)) | (dtype.itemsize < 8)
    found = np.where(inside, np.trunc(value), 0).astype(dtype.numpy)
    found = np.where(value >= float(dtype.high), dtype.numpy.type(dtype.high), found)
    return np.where(value <= float(dtype.low), dtype.numpy.type(dtype.low), found)


def _bitcast(x: Approx, source: DType, dtype: DType) -> Approx:
    memory = np.atleast_1d(x.value.astype(source.numpy))
    value = _wide(np.ascontiguousarray(memory).view(dtype.numpy), dtype).reshape(x.value.shape)
    certain = x.error == 0
    if source.is_float:  # which NaN it is, and the sign of a zero, are not certain
        certain &= ~np.isnan(x.value) & (x.value != 0)
    return Approx(value, np.where(certain, 0, np.inf))


# ----------------------------------------------------------------------------------------------------- the rest


def _shrunk(node: UOp, x: Array) -> Array:
    for axis, (start, stop, step) in enumerate(node.arg):
        x = np.take(x, range(start, stop, step), axis)
    return x


def _padded(node: UOp, x: Array) -> Array:
    found = np.zeros(shape_of(node), x.dtype)
    places = [
        low + np.arange(n) * (between + 1) for n, (low, _, between) in zip(x.shape, node.arg, strict=True)
    ]
    found[np.ix_(*places)] = x
    return found


def _flipped(node: UOp, x: Array) -> Array:
    for axis in node.arg:
        x = np.take(x, range(x.shape[axis] - 1, -1, -1), axis)
    return x


MOVES: dict[Op, Callable[[UOp, Array], Array]] = {
    Op.RESHAPE: lambda node, x: x.reshape(node.arg),
    Op.EXPAND: lambda node, x: np.broadcast_to(x, node.arg),
    Op.PERMUTE: lambda node, x: np.transpose(x, node.arg),
    Op.SHRINK: _shrunk,
    Op.PAD: _padded,
    Op.FLIP: _flipped,
    Op.CONTIGUOUS: lambda node, x: x,
    Op.DETACH: lambda node, x: x,
    Op.SLOPE: lambda node, x, *_: x,
}
REDUCERS = {Op.ADD: np.add, Op.MUL: np.multiply, Op.MAX: np.maximum, Op.MIN: np.minimum}


def _reduce(node: UOp, x: Approx) -> Approx:
    op, axes = node.arg
    value = REDUCERS[op].reduce(x.value, axis=axes, dtype=x.value.dtype)
    worst = np.max(x.error, axis=axes, initial=0)
    if not node.dtype.is_float or op in (Op.MAX, Op.MIN):
        return Approx(value, worst)
    error = _sum_error(x, axes, node.dtype) if op is Op.ADD else _product_error(x, axes, node.dtype)
    # An infinity or NaN among exact numbers makes one of the result, if nothing overflows on the way.
    error = np.where(np.isfinite(value), error, np.where(worst == 0, 0 * error, np.inf))
    return Approx(value, np.where(np.isnan(error) | np.isinf(worst), np.inf, error))


def _sum_error(x: Approx, axes: tuple[int, ...], dtype: DType) -> Array:
    """In any order: a rounding for each element of what the sizes sum up to. None if they are few coarse steps."""
    count = np.prod([x.value.shape[axis] for axis in axes])
    finite = np.isfinite(x.value)
    sizes = np.where(finite, np.abs(x.value), 0)
    total = np.sum(sizes + x.error, axis=axes)
    coarse = np.all((sizes * 1024 == np.rint(sizes * 1024)) & (x.error == 0), axis=axes)
    is_exact = coarse & (total * 1024 < 2.0 ** (min(dtype.mantissa, 23) + 1))
    error = np.sum(x.error, axis=axes) + (count + 2) * roundoff(dtype) * total + count * denormal(dtype)
    return np.where(total + error > top(dtype), np.inf, np.where(is_exact, 0.0, error))


def _product_error(x: Approx, axes: tuple[int, ...], dtype: DType) -> Array:
    count = np.prod([x.value.shape[axis] for axis in axes])
    sizes = np.where(np.isfinite(x.value), np.abs(x.value), 1)
    highest = np.prod(np.maximum(sizes + x.error, 1), axis=axes)
    lowest = np.prod(np.where(sizes == 0, 1, np.minimum(sizes, 1)), axis=axes)
    most, exactly = np.prod(sizes + x.error, axis=axes), np.prod(sizes, axis=axes)
    error = most - exactly + (count + 1) * roundoff(dtype) * most
    # In some order, a product on the way overflows, or is rounded to few bits.
    lost = (highest > top(dtype)) | (lowest < denormal(dtype) / roundoff(dtype) ** 2)
    return np.where(lost, np.inf, error)


def _gather(values: Approx, index: Approx, axis: int) -> Approx:
    n = values.value.shape[axis]
    inside = (index.value >= 0) & (index.value < n)
    places = list(np.indices(index.value.shape))
    places[axis] = np.where(inside, index.value, 0).astype(np.int64)
    if n == 0:
        return Approx(np.zeros(index.value.shape, values.value.dtype), index.error)
    value = np.where(inside, values.value[tuple(places)], np.zeros((), values.value.dtype))
    error = np.where(inside, values.error[tuple(places)], 0)
    return Approx(value, np.maximum(error, index.error))


def _scatter(node: UOp, start: Approx, index: Approx, updates: Approx) -> Approx:
    how, axis = node.arg
    value, error = start.value.copy(), start.error.copy()
    if value.size and not index.known.all():
        return Approx(value, np.full_like(error, np.inf))
    for position in range(index.value.shape[axis] if value.size else 0):
        one = np.take(index.value, [position], axis)
        inside = (one >= 0) & (one < value.shape[axis])
        place = np.where(inside, one, 0).astype(np.int64)
        old = Approx(np.take_along_axis(value, place, axis), np.take_along_axis(error, place, axis))
        new = Approx(*(np.take(part, [position], axis) for part in updates))
        if how != "set":
            new = elementwise(Op.ADD if how == "add" else Op.MAX, node.dtype, node.dtype, [old, new])
        for whole, was, put in ((value, old.value, new.value), (error, old.error, new.error)):
            np.put_along_axis(whole, place, np.where(inside, put, was), axis)
    return Approx(value, error)


# --------------------------------------------------------------------------------------------------- comparing


def mismatches(got: Array, wanted: Approx) -> Array:
    """Where an answer lies further off than it may."""
    numbers = got.astype(np.float64) if got.dtype.kind in "fV" else got
    with np.errstate(all="ignore"):
        if wanted.value.dtype.kind != "f":
            return (numbers != wanted.value) & wanted.known
        equal = (numbers == wanted.value) | (np.isnan(numbers) & np.isnan(wanted.value))
        close = np.isfinite(wanted.value) & (np.abs(numbers - wanted.value) <= wanted.error)
        return wanted.known & ~equal & ~close


def assert_close(got: Array, wanted: Approx, name: object) -> None:
    """Every known element is within its error; the message names the worst offenders."""
    assert got.shape == wanted.value.shape, (name, got.shape, wanted.value.shape)
    wrong = mismatches(got, wanted)
    if wrong.any():
        where = [tuple(map(int, place)) for place in np.argwhere(wrong)[:3]]
        lines = [f"{p}: {got[p]} is not {wanted.value[p]} ± {wanted.error[p]}" for p in where]
        raise AssertionError(f"{name}: {int(wrong.sum())} of {got.size} wrong; {'; '.join(lines)}")
