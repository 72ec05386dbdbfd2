"""The pass that takes float16, bfloat16 and the 8-bit floats out of a kernel, so that no renderer meets one.

Their values are computed in float32 and rounded where they are cast, stored, compared or looked at bit by bit; memory holds
them as unsigned integers of their width, converted by integer operations. Rounding is to nearest, ties to even, in one
step: float64 and wide integers come by way of a float32 rounded to odd, which keeps what the second rounding asks.
(Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008.)
"""

from __future__ import annotations

import numpy as np

from engine import dtype as dt
from engine.dtype import DType
from engine.ir import UOp, toposort
from engine.ops import COMPARE, Op
from engine.rounding import round_array

_WIDE = dt.float32
_SIGN, _MAGNITUDE, _INFINITY = 1 << 31, (1 << 31) - 1, 0xFF << 23


def stored_as(dtype: DType) -> DType:
    """What lies in memory: for a small float the unsigned integer of its width."""
    return dt.DTYPES[f"uint{dtype.bits}"] if dtype.is_small else dtype


def computed_as(dtype: DType) -> DType:
    """What a value is in registers and in a kernel's own memory: a small float is a float32."""
    return _WIDE if dtype.is_small else dtype


def widen(root: UOp) -> UOp:
    """The kernel under the SINK `root` without small floats."""
    order = toposort(root)
    if not any(node.dtype.is_small for node in order):
        return root
    widener = _Widener()
    for node in order:
        widener.widen(node)
    return widener.done[root]


class _Widener:
    """Rebuilds a graph sources first; `done` maps each old node to its new one."""

    def __init__(self) -> None:
        self.done: dict[UOp, UOp] = {}
        self._bits: dict[tuple[UOp, DType], UOp] = {}  # of float32 nodes that are such numbers: their bits

    def widen(self, node: UOp) -> None:
        src = tuple(self.done[source] for source in node.src)
        self.done[node] = self._new(node, src)

    def _new(self, node: UOp, src: tuple[UOp, ...]) -> UOp:
        match node.op:
            case Op.LOAD if node.dtype.is_small and src[0].dtype is not _WIDE:
                return self._load(node, src)
            case Op.STORE if node.src[1].dtype.is_small and src[0].dtype is not _WIDE:
                return node.replace(src=(src[0], self._encoded(src[1], node.src[1].dtype)))
            case Op.CAST if node.dtype.is_small and node.dtype != node.src[0].dtype:
                return self._decoded(encoded(_to_float(src[0]), node.dtype), node.dtype)
            case Op.BITCAST if node.dtype.is_small or node.src[0].dtype.is_small:
                return self._bitcast(node, src[0])
            case Op.WHERE if node.dtype.is_small:
                return self._where(node, src)
            case op if op in COMPARE and node.src[0].dtype.is_small:
                return node.replace(src=tuple(self._rounded(value, node.src[0].dtype) for value in src))
            case Op.PARAM:
                return node.replace(dtype=stored_as(node.dtype))
            case Op.AFTER | Op.INDEX:
                return node.replace(src=src, dtype=src[0].dtype)
        # A CAST that has come to change nothing stays: it is when an accumulator is read.
        return node.replace(src=src, dtype=computed_as(node.dtype))

    def _load(self, node: UOp, src: tuple[UOp, ...]) -> UOp:
        place, *other = src
        known = [self._known_bits(value, node.dtype) for value in other]
        if None not in known:
            bits = UOp(Op.LOAD, place.dtype, (place, *(b for b in known if b is not None)))
            return self._decoded(bits, node.dtype)
        bits = UOp(Op.LOAD, place.dtype, (place, UOp(Op.CONST, place.dtype, (), 0)))
        return UOp(Op.WHERE, _WIDE, (place.src[2], decoded(bits, node.dtype), other[0]))

    def _where(self, node: UOp, src: tuple[UOp, ...]) -> UOp:
        new = node.replace(src=src, dtype=_WIDE)
        a, b = (self._known_bits(value, node.dtype) for value in src[1:])
        if a is not None and b is not None:
            self._bits[new, node.dtype] = UOp(Op.WHERE, a.dtype, (src[0], a, b))
        return new

    def _bitcast(self, node: UOp, value: UOp) -> UOp:
        source = node.src[0].dtype
        bits = self._encoded(value, source) if source.is_small else value
        unsigned = dt.DTYPES[f"uint{node.dtype.bits}"]
        if node.dtype.is_small:
            return self._decoded(_bitcast(bits, unsigned), node.dtype)
        return _bitcast(bits, node.dtype)

    def _rounded(self, value: UOp, dtype: DType) -> UOp:
        """A float32 as the small float that it is stored as; itself if it is one."""
        if value.op is Op.CONST or (value, dtype) in self._bits:
            return value
        return self._decoded(encoded(value, dtype), dtype)

    def _decoded(self, bits: UOp, dtype: DType) -> UOp:
        value = decoded(bits, dtype)
        self._bits[value, dtype] = bits
        return value

    def _encoded(self, value: UOp, dtype: DType) -> UOp:
        return self._known_bits(value, dtype) or encoded(value, dtype)

    def _known_bits(self, value: UOp, dtype: DType) -> UOp | None:
        """The bits of a float32 that is such a number already; None if it must be rounded."""
        if value.op is Op.CONST:
            return encoded(value, dtype)
        return self._bits.get((value, dtype))


def _to_float(value: UOp) -> UOp:
    """A value of any type as a float32 that rounds to a small float as the value itself does."""
    if value.dtype is _WIDE:
        return value
    if value.dtype is dt.bool_ or (value.dtype.is_int and value.dtype.itemsize <= 2):
        return UOp(Op.CAST, _WIDE, (value,))
    exact = value if value.dtype is dt.float64 else UOp(Op.CAST, dt.float64, (value,))
    return rounded_to_odd(exact)


def rounded_to_odd(value: UOp) -> UOp:
    """A float64 as the float32 that it is, else as that of its two neighbours whose last bit is 1."""
    nearest = UOp(Op.CAST, _WIDE, (value,))
    back = UOp(Op.CAST, dt.float64, (nearest,))
    bits = _bitcast(nearest, dt.uint32)
    low = UOp(Op.CONST, dt.uint64, (), (1 << 63) - 1)
    magnitude, found = (
        UOp(Op.AND, dt.uint64, (_bitcast(number, dt.uint64), low)) for number in (value, back)
    )
    beyond = UOp(Op.LT, dt.bool_, (magnitude, found))
    below = _where(beyond, _binary(Op.SUB, bits, 1), bits)
    same = UOp(Op.EQ, dt.bool_, (back, value))
    return _bitcast(_where(same, bits, _binary(Op.OR, below, 1)), _WIDE)


def encoded(value: UOp, dtype: DType) -> UOp:
    """A float32 rounded to a small float: its bits, an unsigned integer of that width."""
    unsigned = stored_as(dtype)
    if value.op is Op.CONST:
        with np.errstate(all="ignore"):
            number = round_array(np.float64(value.arg), dtype).astype(dtype.numpy)
        return UOp(Op.CONST, unsigned, (), int(number.reshape(1).view(unsigned.numpy)[0]))
    bits = _bitcast(value, dt.uint32)
    magnitude = _binary(Op.AND, bits, _MAGNITUDE)
    sign = _binary(Op.SHL, _binary(Op.SHR, bits, 31), dtype.bits - 1)
    nan = _less(_number(_INFINITY), magnitude)
    code = _where(nan, _number(_nan_code(dtype)), _finite_code(magnitude, dtype))
    return UOp(Op.CAST, unsigned, (UOp(Op.OR, dt.uint32, (sign, code)),))


def _finite_code(magnitude: UOp, dtype: DType) -> UOp:
    """The code of a float32 (its bits without sign) that is no NaN; too large ones become the top code."""
    dropped = 23 - dtype.mantissa
    tie = _binary(Op.AND, _binary(Op.SHR, magnitude, dropped), 1)
    raised = UOp(Op.ADD, dt.uint32, (_binary(Op.ADD, magnitude, (1 << (dropped - 1)) - 1), tie))
    rebased = _binary(Op.SUB, _binary(Op.SHR, raised, dropped), (127 - _bias(dtype)) << dtype.mantissa)
    normal = UOp(Op.MIN, dt.uint32, (rebased, _number(_top_code(dtype))))
    if dtype.exponent == 8:  # its denormals are float32's
        return normal
    # Adding 2**23 of their units leaves a denormal's mantissa, rounded, in the last bits of the sum.
    unit = 24 - _bias(dtype) - dtype.mantissa
    sum_ = UOp(Op.ADD, _WIDE, (_bitcast(magnitude, _WIDE), UOp(Op.CONST, _WIDE, (), 2.0**unit)))
    denormal = _binary(Op.SUB, _bitcast(sum_, dt.uint32), (unit + 127) << 23)
    return _where(_less(magnitude, _number((128 - _bias(dtype)) << 23)), denormal, normal)


def decoded(bits: UOp, dtype: DType) -> UOp:
    """The float32 that a small float with these bits is."""
    code = UOp(Op.CAST, dt.uint32, (bits,))
    if dtype.exponent == 8:
        return _bitcast(_binary(Op.SHL, code, 31 - 8 - dtype.mantissa), _WIDE)
    sign = _binary(Op.SHL, _binary(Op.SHR, code, dtype.bits - 1), 31)
    magnitude = _binary(Op.AND, code, (1 << (dtype.bits - 1)) - 1)
    placed = _binary(Op.SHL, magnitude, 23 - dtype.mantissa)
    # Read as a float32 it is too small by the difference of the biases; a denormal is one there too.
    factor = UOp(Op.CONST, _WIDE, (), 2.0 ** (127 - _bias(dtype)))
    scaled = _bitcast(UOp(Op.MUL, _WIDE, (_bitcast(placed, _WIDE), factor)), dt.uint32)
    # float8_e4m3fn has no infinity: its top code alone is special, and NaN.
    special = _number(_INFINITY | 1 << 22) if not dtype.has_infinity else _binary(Op.OR, placed, _INFINITY)
    ordinary = _less(magnitude, _number(_top_code(dtype)))
    return _bitcast(UOp(Op.OR, dt.uint32, (sign, _where(ordinary, scaled, special))), _WIDE)


def _bias(dtype: DType) -> int:
    return (1 << (dtype.exponent - 1)) - 1


def _top_code(dtype: DType) -> int:
    """What is beyond the largest number: infinity's code, or NaN's where there is no infinity."""
    if not dtype.has_infinity:
        return (1 << (dtype.bits - 1)) - 1
    return ((1 << dtype.exponent) - 1) << dtype.mantissa


def _nan_code(dtype: DType) -> int:
    return _top_code(dtype) | (1 << (dtype.mantissa - 1))


def _number(value: int) -> UOp:
    return UOp(Op.CONST, dt.uint32, (), value)


def _binary(op: Op, a: UOp, value: int) -> UOp:
    return UOp(op, dt.uint32, (a, _number(value)))


def _less(a: UOp, b: UOp) -> UOp:
    return UOp(Op.LT, dt.bool_, (a, b))


def _where(condition: UOp, a: UOp, b: UOp) -> UOp:
    return UOp(Op.WHERE, a.dtype, (condition, a, b))


def _bitcast(value: UOp, dtype: DType) -> UOp:
    return value if value.dtype == dtype else UOp(Op.BITCAST, dtype, (value,))
