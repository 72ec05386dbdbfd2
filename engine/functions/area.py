"""The inverses of the hyperbolic functions, right near the points where their logarithms are of nearly 1."""

from __future__ import annotations

from math import log

from engine.build import elementwise, slope
from engine.functions.arithmetic import add, divide, less, like, multiply, subtract, where
from engine.functions.mathematics import in_float, log1p
from engine.ir import UOp
from engine.ops import Op

LARGE = 1e4  # beyond it 1 is nothing beside the square in any dtype that is computed in, and the logarithm is of 2 x


@in_float
def area_sine(x: UOp) -> UOp:
    """The number whose hyperbolic sine is x."""
    size = where(less(x, 0.0), elementwise(Op.NEG, x), x)
    far = less(LARGE, size)
    near = where(far, 1.0, size)
    square = multiply(near, near)
    small = log1p(add(near, divide(square, add(elementwise(Op.SQRT, add(square, 1.0)), 1.0))))
    large = add(elementwise(Op.LOG, where(far, size, 1.0)), log(2.0))
    found = where(far, large, small)
    return slope(
        where(less(x, 0.0), elementwise(Op.NEG, found), where(less(0.0, x), found, x)),
        (x, divide(1.0, elementwise(Op.SQRT, add(multiply(x, x), 1.0)))),
    )


@in_float
def area_cosine(x: UOp) -> UOp:
    """The number from 0 on whose hyperbolic cosine is x; NaN below 1."""
    far = less(LARGE, x)
    above = subtract(where(far, 2.0, x), 1.0)
    root = elementwise(Op.SQRT, multiply(above, add(above, 2.0)))
    large = add(elementwise(Op.LOG, where(far, x, 1.0)), log(2.0))
    found = where(far, large, log1p(add(above, root)))
    steep = multiply(elementwise(Op.SQRT, subtract(x, 1.0)), elementwise(Op.SQRT, add(x, 1.0)))
    return slope(found, (x, divide(1.0, steep)))


@in_float
def area_tangent(x: UOp) -> UOp:
    """The number whose hyperbolic tangent is x: infinite at ±1, NaN beyond."""
    size = where(less(x, 0.0), elementwise(Op.NEG, x), x)
    half = multiply(log1p(divide(multiply(size, 2.0), subtract(1.0, size))), 0.5)
    found = where(less(x, 0.0), elementwise(Op.NEG, half), where(less(0.0, x), half, x))
    return slope(found, (x, divide(like(1.0, x), multiply(subtract(1.0, x), add(x, 1.0)))))
