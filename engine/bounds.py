"""The least and greatest value an integer or bool node can have: what index simplification stands on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from weakref import WeakKeyDictionary

from engine import dtype as dt
from engine.dtype import DType
from engine.ir import UOp, toposort
from engine.ops import COMPARE, VIEWS, Op

Interval = tuple[int, int]  # both ends included

_LIMITS = {d: (d.low, d.high) for d in dt.DTYPES.values() if not d.is_float}
_known: WeakKeyDictionary[UOp, Interval] = WeakKeyDictionary()


def limits(dtype: DType) -> Interval:
    """The least and greatest value of an integer type or bool."""
    return _LIMITS[dtype]


def wrap(value: int, dtype: DType) -> int:
    """`value` as the integer type holds it: two's complement, modulo its width."""
    low, high = _LIMITS[dtype]
    return (value - low) % (high - low + 1) + low


def bounds(node: UOp) -> Interval:
    """The values an int or bool node can take; its type's limits where nothing better is known.

    An expression that may wrap has its type's limits. Iterative, remembered as long as the node lives.
    """
    found = _known.get(node)
    if found is not None:
        return found
    for below in toposort(node, enter=lambda n: n not in _known and n.dtype in _LIMITS):
        if below.dtype in _LIMITS and below not in _known:
            _known[below] = _clip(_rule(below), below.dtype)
    return _known[node]


def fits(interval: Interval, dtype: DType) -> bool:
    """Does every value of the interval fit the type, so that nothing wraps?"""
    low, high = _LIMITS[dtype]
    return low <= interval[0] and interval[1] <= high


def unwrapped(node: UOp) -> Interval:
    """The interval of an ADD, SUB, MUL or NEG of integers before any wrapping."""
    (a, b), *rest = (_known_or_limits(source) for source in node.src)
    if node.op is Op.NEG:
        return (-b, -a)
    c, d = rest[0]
    if node.op is Op.ADD:
        return (a + c, b + d)
    if node.op is Op.SUB:
        return (a - d, b - c)
    corners = (a * c, a * d, b * c, b * d)
    return (min(corners), max(corners))


def _known_or_limits(node: UOp) -> Interval:
    return _known.get(node) or bounds(node)


def _clip(interval: Interval, dtype: DType) -> Interval:
    return interval if fits(interval, dtype) else _LIMITS[dtype]


def _rule(node: UOp) -> Interval:
    op, full = node.op, _LIMITS[node.dtype]
    if op is Op.CONST:
        return (int(node.arg), int(node.arg))
    if op is Op.RANGE:
        return (0, max(node.arg[1] - 1, 0))
    if op is Op.IOTA:
        return (0, max(node.arg - 1, 0))
    if op is Op.VECTOR:
        return _hulls(_known[source] for source in node.src)
    if op in (Op.PAD, Op.GATHER):
        return _hull((0, 0), _known[node.src[0]])
    if op in (Op.ADD, Op.SUB, Op.MUL, Op.NEG):
        return unwrapped(node)
    if op in COMPARE:
        return _compare(node)
    if op is Op.CAST:
        return _cast(node)
    if op in VIEWS or op in (Op.AFTER, Op.CONTIGUOUS):
        return _known[node.src[0]]
    if op is Op.WHERE:
        return _hull(_known[node.src[1]], _known[node.src[2]])
    if op is Op.REDUCE and node.arg[0] in (Op.MAX, Op.MIN):
        return _known[node.src[0]]
    if op in _PAIRS:
        return _PAIRS[op](_known[node.src[0]], _known[node.src[1]], full)
    if op is Op.NOT:
        low, high = _known[node.src[0]]
        return (1 - high, 1 - low) if node.dtype is dt.bool_ else (~high, ~low)
    return full


def _hull(a: Interval, b: Interval) -> Interval:
    return (min(a[0], b[0]), max(a[1], b[1]))


def _hulls(intervals: Iterable[Interval]) -> Interval:
    return reduce(_hull, intervals)


def _compare(node: UOp) -> Interval:
    if node.src[0].dtype not in _LIMITS:
        return (0, 1)
    (a, b), (c, d) = _known[node.src[0]], _known[node.src[1]]
    if node.op is Op.LT:
        return (1, 1) if b < c else (0, 0) if a >= d else (0, 1)
    apart, same = b < c or d < a, a == b == c == d
    if not apart and not same:
        return (0, 1)
    return (1, 1) if same == (node.op is Op.EQ) else (0, 0)


def _cast(node: UOp) -> Interval:
    if node.src[0].dtype not in _LIMITS:
        return _LIMITS[node.dtype]
    low, high = _known[node.src[0]]
    if node.dtype is dt.bool_:
        return (int(low == high != 0 or low > 0 or high < 0), int((low, high) != (0, 0)))
    return (low, high)


def _maximum(a: Interval, b: Interval, full: Interval) -> Interval:
    return (max(a[0], b[0]), max(a[1], b[1]))


def _minimum(a: Interval, b: Interval, full: Interval) -> Interval:
    return (min(a[0], b[0]), min(a[1], b[1]))


def _quotient(a: Interval, b: Interval, full: Interval) -> Interval:
    if b == (0, 0):
        return (0, 0)  # x // 0 is 0
    # Quotients are extreme where the divisor is extreme or nearest to 0 on either side.
    divisors = {d for d in (b[0], b[1], -1, 1) if b[0] <= d <= b[1] and d != 0}
    found = [n // d for n in a for d in divisors] + ([0] if b[0] <= 0 <= b[1] else [])
    return (min(found), max(found))


def _remainder(a: Interval, b: Interval, full: Interval) -> Interval:
    low, high = b
    if low == high and low != 0 and a[0] // low == a[1] // low:
        return (a[0] % low, a[1] % low)
    return (min(low + 1, 0), max(high - 1, 0))


def _left(a: Interval, b: Interval, full: Interval) -> Interval:
    if not 0 <= b[0] <= b[1] < 64:
        return full
    corners = [n << d for n in a for d in b]
    return (min(corners), max(corners))


def _right(a: Interval, b: Interval, full: Interval) -> Interval:
    if b[0] < 0:
        return (min(a[0], -1 if a[0] < 0 else 0), max(a[1], 0))
    corners = [n >> min(d, 64) for n in a for d in b]
    return (min(corners), max(corners))


def _and(a: Interval, b: Interval, full: Interval) -> Interval:
    if a[0] < 0 or b[0] < 0:
        return full
    return (1 if full == (0, 1) and a[0] and b[0] else 0, min(a[1], b[1]))


def _or(a: Interval, b: Interval, full: Interval) -> Interval:
    if a[0] < 0 or b[0] < 0:
        return full
    return (max(a[0], b[0]), (1 << max(a[1].bit_length(), b[1].bit_length())) - 1)


def _xor(a: Interval, b: Interval, full: Interval) -> Interval:
    if a[0] < 0 or b[0] < 0:
        return full
    if full == (0, 1) and a[0] == a[1] and b[0] == b[1]:
        return (a[0] ^ b[0], a[0] ^ b[0])
    return (0, (1 << max(a[1].bit_length(), b[1].bit_length())) - 1)


_PAIRS = {
    Op.MAX: _maximum,
    Op.MIN: _minimum,
    Op.IDIV: _quotient,
    Op.MOD: _remainder,
    Op.SHL: _left,
    Op.SHR: _right,
    Op.AND: _and,
    Op.OR: _or,
    Op.XOR: _xor,
}
