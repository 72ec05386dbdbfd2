"""Constant folding, algebra that keeps every bit, and index arithmetic by value ranges, at both levels.

Folding means exactly what the interpreter means, one rounding an op. Floats are never reassociated, and nothing
is assumed of NaN, infinities and the sign of zero: x * 0 stays. Integers wrap, so their laws hold always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from engine import affine
from engine import dtype as dt
from engine.bounds import bounds, limits, wrap
from engine.build import broadcast, cast, const, permute, reduce, reshape
from engine.dtype import DType
from engine.ir import UOp, toposort
from engine.ops import COMMUTATIVE, ELEMENTWISE, VIEWS, Op
from engine.rewrite import Pattern, Rule, RuleSet, anything, pattern, rewrite_all
from engine.runtime.meaning import apply, working
from engine.shapes import shape_of

Number = bool | int | float
KERNEL_LEVEL = frozenset(
    {Op.RANGE, Op.INDEX, Op.LOAD, Op.STORE, Op.ACC, Op.END, Op.AFTER, Op.SINK, Op.MULACC, Op.VECTOR}
)


def simplify(root: UOp) -> UOp:
    """The same values by fewer or cheaper ops. `root` is a graph of either level; a simplified one stays."""
    return simplify_all((root,))[0]


def simplify_all(roots: Iterable[UOp]) -> tuple[UOp, ...]:
    """`simplify` of several roots; what they share stays shared."""
    roots = tuple(roots)
    lowered = any(node.op in KERNEL_LEVEL for node in toposort(*roots))
    return rewrite_all(roots, KERNEL_RULES if lowered else TENSOR_RULES)


# ------------------------------------------------------------------------------------------- constants


def number_of(node: UOp) -> Number | None:
    """The one value that `node` is everywhere: a CONST, or views of one; else None."""
    while node.op in VIEWS:
        node = node.src[0]
    return node.arg if node.op is Op.CONST else None


def _is_number(node: UOp) -> bool:
    return number_of(node) is not None


def _same(value: Number, wanted: Number) -> bool:
    """Equality that tells -0.0 from 0.0: what is neutral for a float is one bit pattern."""
    return value == wanted and str(float(value)) == str(float(wanted))


def _spread(value: Number, like: UOp) -> UOp:
    """The constant `value` in the place of `like`: of its dtype and, at the tensor level, its shape."""
    return const(value, like.dtype, shape_of(like))


def _scalar(value: Number, like: UOp) -> UOp:
    """`_spread` at the kernel level, where nothing has a shape."""
    return const(value, like.dtype)


Spread = Callable[[Number, UOp], UOp]


def folded(op: Op, dtype: DType, values: list[Number], source_dtypes: list[DType]) -> Number:
    """What the interpreter makes of constants, rounded to `dtype`."""
    arrays = [np.asarray(v, working(d)) for v, d in zip(values, source_dtypes, strict=True)]
    with np.errstate(all="ignore"):
        result = apply(op, dtype, arrays, source_dtypes[0])
    number: Number = result.item()
    return number


def _fold(spread: Spread, x: UOp) -> UOp | None:
    values = [number_of(source) for source in x.src]
    known = [v for v in values if v is not None]
    if len(known) < len(values):
        return None
    return spread(folded(x.op, x.dtype, known, [s.dtype for s in x.src]), x)


def _settled(spread: Spread, x: UOp) -> UOp | None:
    """An integer or bool that can have one value only: also what a range of size 1 is.

    Not a RANGE with a number of trips of its own: that one may run no time at all, and so is a condition.
    """
    if x.op is Op.RANGE and x.src:
        return None
    low, high = bounds(x)
    return spread(low, x) if low == high else None


# --------------------------------------------------------------------------------------------- algebra


def _is_int(node: UOp) -> bool:
    return node.dtype.is_int


def _number(name: str = "c") -> Pattern:
    return anything(name, _is_number)


def _int_const(name: str = "c") -> Pattern:
    return pattern(Op.CONST, name=name, test=_is_int)


def _constant_right(x: UOp) -> UOp | None:
    a, b = x.src
    return x.replace(src=(b, a)) if _is_number(a) and not _is_number(b) else None


def _neutral_number(x: UOp) -> Number | None:
    """The right operand that leaves the left one as it is, bit for bit; None when the op has none."""
    lowest, highest = limits(x.dtype) if not x.dtype.is_float else (float("-inf"), float("inf"))
    found: dict[Op, Number] = {
        Op.ADD: -0.0 if x.dtype.is_float else 0,
        Op.SUB: 0,
        Op.MUL: 1,
        Op.DIV: 1,
        Op.IDIV: 1,
        Op.MAX: lowest,
        Op.MIN: highest,
        Op.OR: 0,
        Op.XOR: 0,
        Op.AND: 1 if x.dtype is dt.bool_ else -1,
    }
    return found.get(x.op)


def _neutral(x: UOp, a: UOp, c: UOp) -> UOp | None:
    """x + 0 (floats: x + -0.0), x * 1, max(x, lowest), x & true, …"""
    number, neutral = number_of(c), _neutral_number(x)
    return a if number is not None and neutral is not None and _same(number, neutral) else None


def _absorbing(x: UOp, a: UOp, c: UOp) -> UOp | None:
    """x * 0, x & 0, x // 0, x % 0 of integers and bools are 0; x | true is true."""
    if x.dtype.is_float:
        return None
    zero = number_of(c) == 0
    full = number_of(c) == (1 if x.dtype is dt.bool_ else -1)
    return c if (zero and x.op is not Op.OR) or (full and x.op is Op.OR) else None


def _of_itself(spread: Spread, x: UOp, a: UOp) -> UOp | None:
    """x & x, max(x, x); and for integers, which have no NaN, x - x, x ^ x, x == x."""
    if x.op in (Op.AND, Op.OR, Op.MAX, Op.MIN):
        return a
    if a.dtype.is_float:
        return spread(0, x) if x.op is Op.LT else None
    if x.op in (Op.SUB, Op.XOR, Op.NE, Op.LT):
        return spread(0, x)
    return spread(1, x) if x.op is Op.EQ else None


def _subtract_number(spread: Spread, x: UOp, a: UOp, c: UOp) -> UOp | None:
    """x - c → x + -c: one form for the rules below."""
    if not x.dtype.is_int:
        return None
    number = number_of(c)
    assert number is not None
    return UOp(Op.ADD, x.dtype, (a, spread(wrap(-int(number), x.dtype), x)))


def _gather_numbers(spread: Spread, x: UOp, y: UOp, c: UOp, d: UOp) -> UOp | None:
    """(y + c) + d → y + (c + d), and the same for the other associative ops on integers and bools."""
    a = x.src[0]
    if a.op is not x.op or x.dtype.is_float:
        return None
    values = [v for v in (number_of(c), number_of(d)) if v is not None]
    return UOp(x.op, x.dtype, (y, spread(folded(x.op, x.dtype, values, [x.dtype] * 2), x)))


def _distribute(spread: Spread, x: UOp, y: UOp, c: UOp, d: UOp) -> UOp | None:
    """(y + c) * d → y * d + c * d for integers: offsets move outwards."""
    if not x.dtype.is_int:
        return None
    values = [v for v in (number_of(c), number_of(d)) if v is not None]
    product = spread(folded(Op.MUL, x.dtype, values, [x.dtype] * 2), x)
    return UOp(Op.ADD, x.dtype, (UOp(Op.MUL, x.dtype, (y, d)), product))


def _choose(c: UOp, a: UOp, b: UOp) -> UOp | None:
    if a is b:
        return a
    chosen = number_of(c)
    return None if chosen is None else a if chosen else b


def _choice_of_bools(x: UOp, c: UOp, a: UOp, b: UOp) -> UOp | None:
    """where(c, true, false) → c, and the other way round → not c."""
    if x.dtype is not dt.bool_ or number_of(a) is None or number_of(b) is None:
        return None
    return c if number_of(a) else UOp(Op.NOT, dt.bool_, (c,))


def _cast_of_cast(x: UOp, y: UOp, z: UOp) -> UOp | None:
    """Drop a middle type that holds every value of the first."""
    return cast(z, x.dtype) if _holds(y.dtype, z.dtype) else None


def _holds(wide: DType, narrow: DType) -> bool:
    """Is every value of `narrow` one of `wide`, and cast from there to anything as from itself?"""
    if wide == narrow or narrow is dt.bool_:
        return True
    if narrow.is_float:
        return wide in (dt.float32, dt.float64) and narrow.itemsize < wide.itemsize
    return wide.is_int and wide.low <= narrow.low and narrow.high <= wide.high


def _dominated(x: UOp, a: UOp, b: UOp) -> UOp | None:
    """max or min of integers whose ranges do not overlap."""
    (low_a, high_a), (low_b, high_b) = bounds(a), bounds(b)
    if low_a >= high_b:
        return a if x.op is Op.MAX else b
    return (b if x.op is Op.MAX else a) if low_b >= high_a else None


_ASSOCIATIVE = (Op.ADD, Op.MUL, Op.AND, Op.OR, Op.XOR, Op.MAX, Op.MIN)
_WITH_NEUTRAL = (*_ASSOCIATIVE, Op.SUB, Op.DIV, Op.IDIV)


def _bind(function: Callable[..., UOp | None], spread: Spread) -> Callable[..., UOp | None]:
    return lambda **bound: function(spread, **bound)


def _algebra(spread: Spread) -> tuple[Rule, ...]:
    x = anything
    same = (x("a"), x("a"))
    tail = (pattern(*_ASSOCIATIVE, src=(x("y"), _number("c"))), _number("d"))
    ops = Op.MUL, Op.AND, Op.OR, Op.IDIV, Op.MOD
    return (
        Rule(pattern(*ELEMENTWISE, name="x"), _bind(_fold, spread)),
        Rule(pattern(*COMMUTATIVE, name="x"), _constant_right),
        Rule(pattern(*_WITH_NEUTRAL, name="x", src=(x("a"), _number())), _neutral),
        Rule(pattern(*ops, name="x", src=(x("a"), _number())), _absorbing),
        Rule(pattern(*_SELF, name="x", src=same), _bind(_of_itself, spread)),
        Rule(pattern(Op.SUB, name="x", src=(x("a"), _number())), _bind(_subtract_number, spread)),
        Rule(pattern(*_ASSOCIATIVE, name="x", src=tail), _bind(_gather_numbers, spread)),
        Rule(
            pattern(Op.MUL, name="x", src=(pattern(Op.ADD, src=(x("y"), _number("c"))), _number("d"))),
            _bind(_distribute, spread),
        ),
        Rule(pattern(Op.NEG, src=(pattern(Op.NEG, src=(x("y"),)),)), lambda y: y),
        Rule(pattern(Op.NOT, src=(pattern(Op.NOT, src=(x("y"),)),)), lambda y: y),
        Rule(pattern(Op.WHERE, src=(x("c"), x("a"), x("b"))), _choose),
        Rule(pattern(Op.WHERE, name="x", src=(x("c"), x("a"), x("b"))), _choice_of_bools),
        Rule(
            pattern(Op.WHERE, name="x", src=(pattern(Op.NOT, src=(x("c"),)), x("a"), x("b"))),
            lambda x, c, a, b: x.replace(src=(c, b, a)),
        ),
        Rule(pattern(Op.CAST, name="x", src=(x("y"),)), lambda x, y: y if x.dtype == y.dtype else None),
        Rule(pattern(Op.CAST, name="x", src=(pattern(Op.CAST, name="y", src=(x("z"),)),)), _cast_of_cast),
        Rule(pattern(Op.BITCAST, name="x", src=(x("y"),)), lambda x, y: y if x.dtype == y.dtype else None),
        Rule(pattern(Op.MAX, Op.MIN, name="x", src=(x("a", _is_int), x("b", _is_int))), _dominated),
    )


_SELF = (Op.AND, Op.OR, Op.XOR, Op.MAX, Op.MIN, Op.SUB, Op.LT, Op.EQ, Op.NE)


# --------------------------------------------------------------------------------------- tensor level


def _view_of_number(x: UOp) -> UOp | None:
    number = number_of(x)
    return None if number is None else broadcast(const(number, x.dtype), shape_of(x))


def _same_shape(x: UOp, y: UOp) -> UOp | None:
    return y if shape_of(x) == shape_of(y) else None


def _permute_of_permute(x: UOp, y: UOp) -> UOp:
    source = y.src[0]
    return permute(source, tuple(y.arg[axis] for axis in x.arg))


def _kept_once(x: UOp, y: UOp) -> UOp | None:
    """What lies in memory of its own already; or has been asked for twice."""
    return (
        y if x.arg == "global" == (y.arg if y.op is Op.CONTIGUOUS else "global") or x.arg == y.arg else None
    )


def _permute_of_ones(x: UOp, y: UOp) -> UOp | None:
    """A permutation that moves only axes of size 1 is a reshape."""
    shape = shape_of(y)
    kept = [axis for axis in x.arg if shape[axis] != 1]
    return reshape(y, shape_of(x)) if kept == sorted(kept) else None


def _reduce_of_ones(x: UOp, y: UOp) -> UOp | None:
    """Axes of size 1 need no reduction: they vanish by a reshape."""
    op, axes = x.arg
    shape = shape_of(y)
    ones = {axis for axis in axes if shape[axis] == 1}
    if not ones and axes:
        return None
    kept = [axis for axis in range(len(shape)) if axis not in ones]
    left = tuple(new for new, axis in enumerate(kept) if axis in axes)
    return reduce(op, reshape(y, tuple(shape[axis] for axis in kept)), left)


def _reduce_of_reduce(x: UOp, y: UOp) -> UOp | None:
    """Two reductions by one op are one over the axes of both."""
    if x.arg[0] is not y.arg[0]:
        return None
    source = y.src[0]
    kept = [axis for axis in range(len(shape_of(source))) if axis not in y.arg[1]]
    return reduce(x.arg[0], source, (*y.arg[1], *(kept[axis] for axis in x.arg[1])))


def _views() -> tuple[Rule, ...]:
    y = anything("y")
    return (
        Rule(pattern(*VIEWS, name="x"), _view_of_number),
        Rule(pattern(Op.RESHAPE, Op.EXPAND, name="x", src=(y,)), _same_shape),
        Rule(
            pattern(Op.RESHAPE, name="x", src=(pattern(Op.RESHAPE, name="y"),)),
            lambda x, y: reshape(y.src[0], x.arg),
        ),
        Rule(
            pattern(Op.EXPAND, name="x", src=(pattern(Op.EXPAND, name="y"),)),
            lambda x, y: x.replace(src=y.src),
        ),
        Rule(pattern(Op.PERMUTE, name="x", src=(pattern(Op.PERMUTE, name="y"),)), _permute_of_permute),
        Rule(pattern(Op.PERMUTE, name="x", src=(y,)), _permute_of_ones),
        Rule(
            pattern(Op.CONTIGUOUS, name="x", src=(pattern(Op.CONTIGUOUS, Op.BUFFER, name="y"),)), _kept_once
        ),
        Rule(pattern(Op.DETACH, src=(y,)), lambda y: y),
        Rule(pattern(Op.SLOPE, name="x"), lambda x: x.src[0]),
        Rule(pattern(Op.REDUCE, name="x", src=(y,)), _reduce_of_ones),
        Rule(pattern(Op.REDUCE, name="x", src=(pattern(Op.REDUCE, name="y"),)), _reduce_of_reduce),
    )


# --------------------------------------------------------------------------------------- kernel level


def _has_bounds(node: UOp) -> bool:
    return node.dtype is dt.bool_ or node.dtype.is_int


def _positive(node: UOp) -> bool:
    return node.op is Op.CONST and node.dtype.is_int and node.arg > 0


def _repeated(x: UOp, y: UOp, c: UOp, d: UOp) -> UOp | None:
    """(y // c) // d → y // (c*d); (y % c) % d → y % d and (y % c) // d → (y // d) % (c // d) where d divides c."""
    inner = x.src[0]
    if inner.op is Op.IDIV:
        product = c.arg * d.arg
        fits_type = x.op is Op.IDIV and product <= limits(x.dtype)[1]
        return UOp(Op.IDIV, x.dtype, (y, const(product, x.dtype))) if fits_type else None
    if c.arg % d.arg:
        return None
    if x.op is Op.MOD:
        return UOp(Op.MOD, x.dtype, (y, d))
    return UOp(Op.MOD, x.dtype, (UOp(Op.IDIV, x.dtype, (y, d)), const(c.arg // d.arg, x.dtype)))


def _quotient_less(y: UOp, c: UOp, d: UOp) -> UOp | None:
    """y // c < d → y < c * d."""
    product = c.arg * d.arg
    low, high = limits(y.dtype)
    return UOp(Op.LT, dt.bool_, (y, const(product, y.dtype))) if low <= product <= high else None


def _drop_closed(x: UOp) -> UOp | None:
    """END of ranges that vanished."""
    left = tuple(source for source in x.src[1:] if source.op is Op.RANGE)
    if len(left) == len(x.src) - 1:
        return None
    return x.replace(src=(x.src[0], *left)) if left else x.src[0]


def _drop_waits(x: UOp) -> UOp | None:
    """AFTER of ranges that vanished, or of nothing."""
    left = tuple(source for source in x.src[1:] if source.op is not Op.CONST)
    if left and len(left) == len(x.src) - 1:
        return None
    return x.replace(src=(x.src[0], *left)) if left else x.src[0]


def _invalid_load(x: UOp, i: UOp, other: UOp) -> UOp | None:
    valid = number_of(i.src[2]) if len(i.src) == 3 else True
    if valid is None:
        return None
    return x.replace(src=(i.replace(src=i.src[:2]),)) if valid else other


def _digits_of(node: UOp) -> bool:
    """Is a source a remainder or quotient, perhaps scaled: worth looking for its other half?"""
    parts = (s.src[0] if s.op is Op.MUL else s for s in node.src)
    return node.dtype.is_int and any(part.op in (Op.MOD, Op.IDIV) for part in parts)


def _index_rules() -> tuple[Rule, ...]:
    y, c, d = anything("y"), pattern(Op.CONST, name="c", test=_positive), _int_const("d")
    n = pattern(Op.CONST, name="d", test=_positive)
    digits = pattern(Op.IDIV, Op.MOD, src=(y, c))
    return (
        Rule(pattern(Op.IDIV, Op.MOD, name="x", src=(digits, n)), _repeated),
        Rule(pattern(Op.IDIV, src=(y, n)), lambda y, d: affine.quotient(y, d.arg)),
        Rule(pattern(Op.MOD, src=(y, n)), lambda y, d: affine.remainder(y, d.arg)),
        Rule(pattern(Op.LT, src=(pattern(Op.IDIV, src=(y, c)), d)), _quotient_less),
        Rule(pattern(Op.LT, src=(anything("y", _is_int), d)), lambda y, d: affine.less_than(y, d.arg)),
        Rule(pattern(Op.ADD, name="node", test=_digits_of), affine.recombined),
    )


def _settled_rules(spread: Spread) -> tuple[Rule, ...]:
    computed = pattern(*ELEMENTWISE, Op.RANGE, name="x", test=_has_bounds)
    return (Rule(computed, _bind(_settled, spread)),)


_EFFECTS = (
    Rule(pattern(Op.END, name="x"), _drop_closed),
    Rule(pattern(Op.AFTER, name="x"), _drop_waits),
    Rule(pattern(Op.LOAD, name="x", src=(pattern(Op.INDEX, name="i"), anything("other"))), _invalid_load),
)
TENSOR_RULES = RuleSet("simplify", _algebra(_spread) + _settled_rules(_spread) + _views() + _index_rules())
KERNEL_RULES = RuleSet("simplify", _algebra(_scalar) + _settled_rules(_scalar) + _index_rules() + _EFFECTS)
