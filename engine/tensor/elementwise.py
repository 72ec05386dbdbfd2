"""Functions of each element."""

from __future__ import annotations

from math import log, pi
from typing import Self

from engine import build
from engine.dtype import float64
from engine.functions import area, arithmetic, gamma, mathematics, powers
from engine.shapes import shape_of
from engine.tensor.value import Operand, Value


class Elementwise(Value):
    """Methods that look at one element at a time. Floats stay what they are, integers and bool become float32."""

    __slots__ = ()

    # -- choosing -------------------------------------------------------------------------------------------

    def maximum(self, other: Operand) -> Self:
        """The greater of the two, NaN where either is."""
        return self._with(arithmetic.maximum, other)

    def minimum(self, other: Operand) -> Self:
        """The lesser of the two, NaN where either is."""
        return self._with(arithmetic.minimum, other)

    def where(self, if_true: Operand, if_false: Operand) -> Self:
        """`if_true` where this tensor is true (not 0), else `if_false`; a number takes the type of what it meets."""
        return self._new(arithmetic.where(self._node, self._term(if_true), self._term(if_false)))

    def masked_fill(self, mask: Operand, value: Operand) -> Self:
        """This tensor, with `value` where `mask` is true; its dtype stays."""
        filled = arithmetic.where(self._operand(mask), self._operand(value), self._node)
        return self._new(build.cast(filled, self.dtype))

    def clamp(self, min: Operand = None, max: Operand = None) -> Self:
        """Held between two limits, either of which may be None; `max` where they cross, NaN stays NaN."""
        low, high = (None if limit is None else self._term(limit) for limit in (min, max))
        return self._new(mathematics.clamp(self._node, low, high))

    clip = clamp

    def clamp_min(self, min: Operand) -> Self:
        """Held from below."""
        return self.clamp(min=min)

    def clamp_max(self, max: Operand) -> Self:
        """Held from above."""
        return self.clamp(max=max)

    def fmax(self, other: Operand) -> Self:
        """The greater of the two; of a number and NaN the number."""
        return self._with(arithmetic.greater_number, other)

    def fmin(self, other: Operand) -> Self:
        """The lesser of the two; of a number and NaN the number."""
        return self._with(arithmetic.lesser_number, other)

    def addcmul(self, tensor1: Value, tensor2: Value, value: float = 1) -> Self:
        """self + value · tensor1 · tensor2."""
        product = arithmetic.multiply(self._operand(tensor1), self._operand(tensor2))
        return self._new(arithmetic.add(self._node, arithmetic.multiply(product, value)))

    def addcdiv(self, tensor1: Value, tensor2: Value, value: float = 1) -> Self:
        """self + value · tensor1 / tensor2."""
        quotient = arithmetic.divide(self._operand(tensor1), self._operand(tensor2))
        return self._new(arithmetic.add(self._node, arithmetic.multiply(quotient, value)))

    def lerp(self, end: Operand, weight: Operand) -> Self:
        """self + weight (end - self)."""
        return self._new(mathematics.lerp(self._node, self._operand(end), self._term(weight)))

    # -- rounding and sign ----------------------------------------------------------------------------------

    def floor(self) -> Self:
        """The greatest whole number not above x."""
        return self._new(arithmetic.floor(self._node))

    def ceil(self) -> Self:
        """The least whole number not below x."""
        return self._new(arithmetic.ceil(self._node))

    def trunc(self) -> Self:
        """Towards 0 to a whole number."""
        return self._new(arithmetic.truncate(self._node))

    def frac(self) -> Self:
        """x less `trunc` of it."""
        return self._new(arithmetic.subtract(self._node, arithmetic.truncate(self._node)))

    def round(self, decimals: int = 0) -> Self:
        """To the nearest whole number, of two the even one; or so many decimals (negative: tens, hundreds, …)."""
        return self._new(mathematics.rounded(self._node, decimals, arithmetic.nearest))

    def abs(self) -> Self:
        """|x|."""
        return self._new(arithmetic.absolute(self._node))

    def sign(self) -> Self:
        """1, 0 or -1; 0 of NaN."""
        return self._new(mathematics.sign(self._node))

    def signbit(self) -> Self:
        """True where x is negative, or -0."""
        return self._new(arithmetic.sign_bit(self._node))

    def copysign(self, other: Operand) -> Self:
        """|x| with the sign of `other`, -0 included."""
        return self._with(mathematics.copy_sign, other)

    def __round__(self, decimals: int = 0) -> Self:
        return self.round(decimals)

    def sinc(self) -> Self:
        """sin(πx) / πx; 1 at 0."""
        return self._new(mathematics.cardinal_sine(self._node))

    def heaviside(self, values: Operand) -> Self:
        """0 below 0, 1 above it, and at 0 what `values` says."""
        x, at = arithmetic.together(self._node, self._operand(values))
        above = build.cast(arithmetic.less(0, x), x.dtype)
        return self._new(arithmetic.where(arithmetic.equal(x, 0), at, above))

    def ldexp(self, other: Operand) -> Self:
        """x · 2 ** other."""
        return self._new(arithmetic.multiply(self._node, mathematics.exp2(self._operand(other))))

    def logaddexp2(self, other: Operand) -> Self:
        """The logarithm to base 2 of 2 ** x + 2 ** other, without overflow on the way."""
        x, y = (
            arithmetic.multiply(arithmetic.as_float(n), log(2.0)) for n in (self._node, self._operand(other))
        )
        return self._new(arithmetic.divide(mathematics.log_add_exp(x, y), log(2.0)))

    def float_power(self, exponent: Operand) -> Self:
        """x ** exponent in float64."""
        power = (
            exponent if isinstance(exponent, int | float) else build.cast(self._operand(exponent), float64)
        )
        return self._new(powers.power(build.cast(self._node, float64), power))

    def isposinf(self) -> Self:
        """True where x is +infinity."""
        return self._new(arithmetic.equal(self._node, float("inf")))

    def isneginf(self) -> Self:
        """True where x is -infinity."""
        return self._new(arithmetic.equal(self._node, float("-inf")))

    absolute, fix, sgn = abs, trunc, sign

    # -- roots, powers, logarithms --------------------------------------------------------------------------

    def square(self) -> Self:
        """x · x."""
        return self._new(arithmetic.multiply(self._node, self._node))

    def sqrt(self) -> Self:
        """The square root; NaN of less than 0."""
        return self._new(mathematics.root(self._node))

    def rsqrt(self) -> Self:
        """1 / √x."""
        return self._new(mathematics.reciprocal_root(self._node))

    def reciprocal(self) -> Self:
        """1 / x."""
        return self._new(mathematics.reciprocal(self._node))

    def exp(self) -> Self:
        """e ** x."""
        return self._new(mathematics.exp(self._node))

    def exp2(self) -> Self:
        """2 ** x, exact for whole x."""
        return self._new(mathematics.exp2(self._node))

    def expm1(self) -> Self:
        """exp(x) - 1, right for small x too."""
        return self._new(mathematics.expm1(self._node))

    def log(self) -> Self:
        """The natural logarithm; -infinity of 0, NaN of less."""
        return self._new(mathematics.logarithm(self._node))

    def log2(self) -> Self:
        """The logarithm to base 2."""
        return self._new(mathematics.log_2(self._node))

    def log10(self) -> Self:
        """The logarithm to base 10."""
        return self._new(mathematics.log_10(self._node))

    def log1p(self) -> Self:
        """log(1 + x), right for small x too."""
        return self._new(mathematics.log1p(self._node))

    def logaddexp(self, other: Operand) -> Self:
        """log(exp(x) + exp(other)) without overflow on the way."""
        return self._with(mathematics.log_add_exp, other)

    def hypot(self, other: Operand) -> Self:
        """√(x² + other²) without overflow on the way."""
        return self._with(mathematics.hypotenuse, other)

    def erf(self) -> Self:
        """The error function."""
        return self._new(mathematics.erf(self._node))

    def erfc(self) -> Self:
        """1 - erf(x), right where that is small."""
        return self._new(mathematics.erfc(self._node))

    def lgamma(self) -> Self:
        """log |Γ(x)|: of a whole x from 1 on the logarithm of (x - 1)!"""
        return self._new(gamma.log_gamma(self._node))

    def digamma(self) -> Self:
        """The derivative of `lgamma`."""
        return self._new(gamma.digamma(self._node))

    def logit(self, eps: float | None = None) -> Self:
        """log(x / (1 - x)): what the sigmoid undoes; x is held `eps` away from 0 and 1."""
        x = self._node if eps is None else mathematics.clamp(self._node, eps, 1.0 - eps)
        return self._new(mathematics.log_odds(x))

    def xlogy(self, other: Operand) -> Self:
        """x · log(other); 0 where x is 0, unless other is NaN."""
        x, y = map(arithmetic.as_float, arithmetic.together(self._node, self._operand(other)))
        return self._new(mathematics.times_logarithm(x, y))

    def deg2rad(self) -> Self:
        """Degrees as radians."""
        return self._new(arithmetic.multiply(arithmetic.as_float(self._node), pi / 180))

    def rad2deg(self) -> Self:
        """Radians as degrees."""
        return self._new(arithmetic.multiply(arithmetic.as_float(self._node), 180 / pi))

    # -- angles ---------------------------------------------------------------------------------------------

    def sin(self) -> Self:
        """The sine of x in radians."""
        return self._new(mathematics.sine(self._node))

    def cos(self) -> Self:
        """The cosine of x in radians."""
        return self._new(mathematics.cosine(self._node))

    def tan(self) -> Self:
        """The tangent of x in radians."""
        return self._new(mathematics.tangent(self._node))

    def asin(self) -> Self:
        """The angle from -π/2 to π/2 whose sine is x; NaN beyond ±1."""
        return self._new(mathematics.arcsine(self._node))

    def acos(self) -> Self:
        """The angle from 0 to π whose cosine is x; NaN beyond ±1."""
        return self._new(mathematics.arccosine(self._node))

    def atan(self) -> Self:
        """The angle from -π/2 to π/2 whose tangent is x."""
        return self._new(mathematics.arctangent(self._node))

    def atan2(self, other: Operand) -> Self:
        """The angle from -π to π of the point (other, self)."""
        return self._with(mathematics.arctangent2, other)

    def sinh(self) -> Self:
        """The hyperbolic sine."""
        return self._new(mathematics.sinh(self._node))

    def cosh(self) -> Self:
        """The hyperbolic cosine."""
        return self._new(mathematics.cosh(self._node))

    def tanh(self) -> Self:
        """The hyperbolic tangent."""
        return self._new(mathematics.tanh(self._node))

    def asinh(self) -> Self:
        """The number whose hyperbolic sine is x."""
        return self._new(area.area_sine(self._node))

    def acosh(self) -> Self:
        """The number from 0 on whose hyperbolic cosine is x; NaN below 1."""
        return self._new(area.area_cosine(self._node))

    def atanh(self) -> Self:
        """The number whose hyperbolic tangent is x; infinite at ±1, NaN beyond."""
        return self._new(area.area_tangent(self._node))

    arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2
    arcsinh, arccosh, arctanh = asinh, acosh, atanh

    # -- what kind of number --------------------------------------------------------------------------------

    def isnan(self) -> Self:
        """True where x is NaN."""
        return self._new(arithmetic.is_nan(self._node))

    def isinf(self) -> Self:
        """True where x is an infinity."""
        return self._new(arithmetic.is_infinite(self._node))

    def isfinite(self) -> Self:
        """True where x is neither NaN nor an infinity."""
        return self._new(arithmetic.is_finite(self._node))

    def nan_to_num(self, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Self:
        """NaN and the infinities replaced; those by the largest and lowest finite number where not said."""
        return self._new(mathematics.nan_to_num(self._node, nan, posinf, neginf))

    def isclose(
        self, other: Operand, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
    ) -> Self:
        """|x - other| <= atol + rtol |other|; infinities equal themselves, and with `equal_nan` NaN does."""
        x, y = map(arithmetic.as_float, arithmetic.together(self._node, self._operand(other)))
        room = arithmetic.add(arithmetic.multiply(arithmetic.absolute(y), rtol), atol)
        near = arithmetic.less_or_equal(arithmetic.absolute(arithmetic.subtract(x, y)), room)
        near = arithmetic.logical_and(near, arithmetic.is_finite(y))
        near = arithmetic.logical_or(near, arithmetic.equal(x, y))
        if equal_nan:
            both = arithmetic.logical_and(arithmetic.is_nan(x), arithmetic.is_nan(y))
            near = arithmetic.logical_or(near, both)
        return self._new(near)

    def allclose(
        self, other: Operand, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
    ) -> bool:
        """Is every element `isclose`? Computed now."""
        near = self.isclose(other, rtol, atol, equal_nan)
        return bool(near.numpy().all())

    def equal(self, other: Operand) -> bool:
        """Have both one shape and equal elements? Computed now."""
        node = self._operand(other)
        same = shape_of(node) == self.shape
        return same and bool(self._new(arithmetic.equal(self._node, node)).numpy().all())

    def is_nonzero(self) -> bool:
        """The one element as a bool, computed now; ValueError unless there is exactly one."""
        return bool(self.item())
