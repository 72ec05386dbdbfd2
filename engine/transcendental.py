"""EXP, LOG and SIN of float32 and float64 out of ops that every backend rounds alike.

A system's library gives other last bits than the next one, and one number at a time; these give the same everywhere,
in as many lanes as there are. The series are Taylor's, as long as the reduced arguments need: their coefficients are
fractions, not tables. Special values are IEEE 754's. Errors, measured against exact values: see
tests/engine/test_transcendental.py. SIN of float64 stays the library's: its reduction needs 1,200 digits of 2/π, and
lanes have no branch by which those of ordinary arguments could avoid them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import factorial, inf, nan, pi

from engine import dtype as dt
from engine.dtype import DType
from engine.ir import UOp, consumers, toposort
from engine.ops import Op
from engine.shapes import Shape
from engine.term import Term, polynomial

LN2 = Fraction("0.693147180559945309417232121458176568075500134360255254")
# The binary digits of 2/π, as many as the largest float32 needs: floor(2/π · 2**224).
TWO_OVER_PI = 0xA2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163AB


@dataclass(frozen=True, slots=True)
class _Format:
    """How a float type is laid out, and how many terms of each series its precision needs."""

    mantissa: int
    bias: int
    whole: DType  # the signed integer of its size
    split: int  # bits of the high part of ln 2: its product with an exponent is exact
    logarithm: int
    exponential: int
    turn: int
    low: float  # exp is 0 from here down
    high: float  # and infinite from here up


_FORMATS = {
    dt.float32: _Format(23, 127, dt.int32, 15, 5, 8, 4, -105.0, 89.0),
    dt.float64: _Format(52, 1023, dt.int64, 41, 12, 14, 8, -746.0, 710.0),
}


def is_expanded(node: UOp) -> bool:
    """Is it an EXP, LOG or SIN that `expand` knows?"""
    return (node.op, node.dtype) in _FUNCTIONS


def expand(node: UOp, shape: Shape = ()) -> UOp:
    """An EXP, LOG or SIN of float32, or an EXP or LOG of float64, in basic ops; any other node as it is.

    `shape` is the node's at the tensor level and () at the kernel level.
    """
    function = _FUNCTIONS.get((node.op, node.dtype))
    return node if function is None else function(Term(node.src[0], shape)).node


def expand_all(root: UOp, *, fma: bool) -> UOp:
    """The kernel under the SINK `root` with every function expanded; with `fma`, sums of products are MULACC."""
    done: dict[UOp, UOp] = {}
    for node in toposort(root):
        src = tuple(done[source] for source in node.src)
        new = node if src == node.src else node.replace(src=src)
        if is_expanded(new):
            new = _contracted(expand(new), new.src[0]) if fma else expand(new)
        done[node] = new
    return done[root]


def _contracted(root: UOp, x: UOp) -> UOp:
    """`root`, a function of x, with MULACC for every sum of a product that nothing else reads."""
    order = toposort(root, enter=lambda node: node is not x)
    readers = consumers(order)
    done = {x: x}
    for node in order:
        if node is x:
            continue
        src = tuple(done[source] for source in node.src)
        place = next((i for i, s in enumerate(node.src) if s.op is Op.MUL and len(readers[s]) == 1), None)
        if node.op is Op.ADD and node.dtype.is_float and place is not None and node.src[place] is not x:
            done[node] = UOp(Op.MULACC, node.dtype, (*src[place].src, src[1 - place]))
        else:
            done[node] = node.replace(src=src)
    return done[root]


# ------------------------------------------------------------------------------------------- logarithm


def logarithm(x: Term) -> Term:
    """ln x of float32 or float64: -infinity of 0, NaN of less."""
    layout = _FORMATS[x.dtype]
    tiny = x < 2.0 ** (1 - layout.bias)
    lift = layout.mantissa + 1
    scaled = tiny.where(x * 2.0**lift, x)
    # x = m · 2**k with m from √½ to √2: m's bits are taken as a distance from √½'s.
    root = _bits_of_root_half(layout)
    distance = scaled.bits(layout.whole) - root
    exponent = distance >> layout.mantissa
    m = ((distance & ((1 << layout.mantissa) - 1)) + root).bits(x.dtype)
    k = (exponent - tiny.where(lift, exponent.constant(0))).cast(x.dtype)
    found = _near_one(m, k, layout)
    found = x.equals(inf).where(inf, found)
    found = x.equals(0.0).where(-inf, found)
    # Written so that NaN, which is not less than anything, takes the first way.
    return (x < 0.0).where(nan, (x < inf).where(found, x + x))


def _bits_of_root_half(layout: _Format) -> int:
    """The bits of √½, rounded down: mantissa √2 - 1, exponent -1."""
    square = 1 << (2 * layout.mantissa + 1)
    return ((layout.bias - 1) << layout.mantissa) + _whole_root(square) - (1 << layout.mantissa)


def _whole_root(square: int) -> int:
    low, high = 0, square
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle * middle <= square else (low, middle - 1)
    return low


def _near_one(m: Term, k: Term, layout: _Format) -> Term:
    """k · ln 2 + ln m, with s = f / (2 + f) of f = m - 1: ln m = 2 · atanh s = f - f²/2 + s · (f²/2 + R(s²))."""
    high, low = _halves(LN2, layout.split)
    f = m - 1.0
    half = f * f * 0.5
    s = f / (f + 2.0)
    z = s * s
    series = polynomial(z, [2.0 / (2 * i + 3) for i in range(layout.logarithm)])
    small = half - (s * (half + z * series) + k * low)
    return k * high + (f - small)


def _halves(value: Fraction, bits: int) -> tuple[float, float]:
    """A number from ½ to 1 as one of so many bits and the rest."""
    high = Fraction(int(value * (1 << bits)), 1 << bits)
    return float(high), float(value - high)


# ----------------------------------------------------------------------------------------- exponential


def exponential(x: Term) -> Term:
    """e**x of float32 or float64, down to the least denormal."""
    layout = _FORMATS[x.dtype]
    high, low = _halves(LN2, layout.split)
    # Comparisons that NaN does not meet: it stays, and so does what it makes of all below.
    bound = (x < layout.low).where(layout.low, x)
    bound = (bound.constant(layout.high) < bound).where(layout.high, bound)
    # As large a number has no digits behind the point, and its last bits are k + 2 · bias.
    shift = 1.5 * 2.0**layout.mantissa + 2 * layout.bias
    shifted = bound * float(1 / LN2) + shift
    k = shifted - shift
    upper = bound + k * -high
    r = upper + k * -low
    series = polynomial(r, [1.0 / factorial(i + 2) for i in range(layout.exponential - 2)])
    # 1 + r + r² · (½ + …), with what r lost to rounding
    grown = (r * r * series + ((upper - r) + k * -low) + r) + 1.0
    whole = shifted.bits(layout.whole)
    first = whole >> 1
    # In two steps: 2**k itself may be no normal number while the result is one.
    return grown * _power(first, x.dtype, layout) * _power(whole - first, x.dtype, layout)


def _power(biased: Term, dtype: DType, layout: _Format) -> Term:
    """2**k from a number that ends in the bits of k + bias."""
    return (biased << layout.mantissa).bits(dtype)


# ------------------------------------------------------------------------------------------------ sine


def sine(x: Term) -> Term:
    """sin x of float32, for any finite x; NaN of the infinities."""
    bits = x.bits(dt.int32)
    negative = bits < 0
    positive = negative.where(-x, x)
    small = positive < pi / 4
    quarter, angle = _reduced(positive)
    quarter = small.where(0, quarter)
    found, other = sine_and_cosine(small.where(positive, angle))
    found = (quarter & 1).equals(1).where(other, found)
    turned = (quarter & 2).equals(2)
    found = (negative ^ turned).where(-found, found)
    # x itself, so that -0 stays: its quarter is 0.
    return positive.equals(0.0).where(x, (positive < inf).where(found, x - x))


def _reduced(x: Term) -> tuple[Term, Term]:
    """(k, a) with x = k · π/2 + a, k modulo 4, a from -π/4 to π/4, for a float32 x of π/4 and more.

    Payne and Hanek's reduction: x = m · 2**s, and m · 2/π is needed modulo 4 only, to 62 bits behind the point. Those
    depend on 96 of the digits of 2/π, from the one of weight 2**(1 - s) on.
    """
    bits = x.bits(dt.uint32)
    m = (bits & 0x7FFFFF) | 0x800000
    first = (bits >> 23) - (150 - 30)  # s + 30: 32 zeros stand before the digits
    a, b, c, d = _words(first >> 5)
    shift = first & 31
    back = shift.constant(31) - shift
    high, middle, low = (
        (upper << shift) | ((lower >> 1) >> back) for upper, lower in ((a, b), (b, c), (c, d))
    )
    wide = m.cast(dt.uint64)
    product = wide * middle.cast(dt.uint64) + ((wide * low.cast(dt.uint64)) >> 32)
    product = product + ((m * high).cast(dt.uint64) << 32)
    quarter = ((product + (1 << 61)) >> 62).cast(dt.int32)
    rest = (product << 2).bits(dt.int64)  # of a quarter, in 2**-64
    return quarter, (rest.cast(dt.float64) * (pi / 2 * 2.0**-64)).cast(dt.float32)


def _words(place: Term) -> list[Term]:
    """Four words of 32 binary digits, from word 0 … 4 on, of 0 and the digits of 2/π."""
    words = [0, *((TWO_OVER_PI >> 32 * (6 - i)) & 0xFFFFFFFF for i in range(7))]
    found = []
    for offset in range(4):
        chosen = place.constant(words[offset])
        for start in range(1, 5):
            chosen = place.equals(start).where(words[start + offset], chosen)
        found.append(chosen)
    return found


def sine_and_cosine(a: Term) -> tuple[Term, Term]:
    """The sine and the cosine of a float32 or float64 from -π/4 to π/4."""
    terms = _FORMATS[a.dtype].turn
    z = a * a
    odd = polynomial(z, [(-1.0) ** (i + 1) / factorial(2 * i + 3) for i in range(terms)])
    even = polynomial(z, [(-1.0) ** i / factorial(2 * i + 4) for i in range(terms)])
    half = z * 0.5
    rough = half.constant(1.0) - half
    return a + a * (z * odd), rough + ((rough.constant(1.0) - rough - half) + z * z * even)


_FUNCTIONS: dict[tuple[Op, DType], Callable[[Term], Term]] = {
    (Op.LOG, dt.float32): logarithm,
    (Op.LOG, dt.float64): logarithm,
    (Op.EXP, dt.float32): exponential,
    (Op.EXP, dt.float64): exponential,
    (Op.SIN, dt.float32): sine,
}
