"""Is an output right? Tolerances from the arithmetic, bit-exact checks where sums are exact, sampled big outputs.

Tolerance of one float element, in absolute terms:

    4 · max(naive, u · √K · |x|) + ulp(expected)

`naive` is the error of the unscheduled kernel against float64, measured on the same inputs: the largest of any
element for a reduction (a schedule may order its sum differently), the element's own otherwise. It counts up to
a thousandth of the largest expected value, so that a wrong unscheduled kernel excuses nothing. K is how many
elements are reduced to one, |x| the larger of the expected value and of what the kernel gives for the inputs'
absolute values: for a sum of products that is Σ|a·b|, so a result that cancels is not held to its own size.
u is half an ulp of 1 in the coarsest float type that values are rounded to on the way: 2⁻²⁴ for float32 (float16
and bfloat16 are computed in it), and the ulp is one of the output's type. u·√K·Σ|a·b| is some 8·√K times what sums of random numbers lose in any order, and far below 1 % of them.
Integers and booleans must be equal, and so must floats where small whole inputs keep every sum exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod, sqrt

import numpy as np

from engine import dtype as dt
from engine.arena import POISONS
from engine.dtype import DType
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import COMPARE, VIEWS, Op
from engine.programs import cost, random_inputs
from engine.rounding import ulp, unit_roundoff
from engine.runtime.interp import evaluate_rows
from engine.runtime.meaning import stored
from engine.shapes import shape_of

Array = np.ndarray

MARGIN = 4.0
NAIVE_AT_MOST = 1e-3
# What of a big kernel is checked: at most so many steps of the iteration space, and so many output elements.
SAMPLED_WORK = 8_000_000
SAMPLED_OUTPUT = 500_000
BLOCKS = 8

Rows = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Reference:
    """What a kernel's output must be for these inputs, in the sampled blocks of `rows` of its first axis.

    `expected` is float64 for floats and the output's own type otherwise; `tolerance` is 0 for exact checks.
    """

    kernel: Kernel
    inputs: tuple[Array, ...]
    rows: Rows
    expected: tuple[Array, ...]
    magnitude: tuple[Array, ...] | None
    naive: tuple[Array, ...] | None = None

    @property
    def exact(self) -> bool:
        """Must the output be equal bit for bit?"""
        return self.magnitude is None

    @cached_property
    def tolerances(self) -> tuple[Array, ...]:
        """The tolerance of each element, in absolute terms, block by block."""
        return tuple(_tolerance(self, block) for block in range(len(self.rows)))


@dataclass(frozen=True)
class Verdict:
    """What a check found: the error and tolerance of the worst element, and the problem in words if any."""

    max_error: float
    tolerance: float
    problem: str = ""

    @property
    def right(self) -> bool:
        """No problem?"""
        return not self.problem


def reference(kernel: Kernel, seed: int, *, integers: bool = False, work: int = SAMPLED_WORK) -> Reference:
    """Random inputs for `seed` and the outputs they must give; a big output is sampled by blocks of rows.

    With `integers` the inputs are small whole numbers; the check is exact if `exact_for_integers(kernel)`.
    """
    inputs = random_inputs(kernel, seed, integers=integers)
    rows = _sample(kernel, seed, work)
    is_float = kernel.dtype.is_float
    expected = _evaluate(kernel, inputs, rows, exact=is_float)
    magnitude = None
    if is_float and not (integers and exact_for_integers(kernel)):
        sizes = [np.abs(a) if p.dtype.is_float else a for p, a in zip(kernel.params, inputs, strict=True)]
        magnitude = _evaluate(kernel, sizes, rows, exact=True)
    return Reference(kernel, tuple(inputs), rows, expected, magnitude)


def with_naive(found: Reference, output: Array) -> Reference:
    """The reference with the unscheduled kernel's own error taken into account, and with what was assumed of it."""
    if found.exact:
        return found
    with np.errstate(invalid="ignore"):  # an infinity that is right has no error
        errors = [
            _finite(np.abs(_part(output, rows).astype(np.float64) - expected))
            for rows, expected in zip(found.rows, found.expected, strict=True)
        ]
    most = NAIVE_AT_MOST * _largest(found.expected)
    if found.kernel.reduces:
        largest = _largest(errors)
        errors = [np.full_like(error, largest) for error in errors]
    known = found.naive or tuple(map(np.zeros_like, errors))
    return replace(
        found, naive=tuple(np.maximum(np.minimum(e, most), k) for e, k in zip(errors, known, strict=True))
    )


def with_relative_error(found: Reference, relative: float) -> Reference:
    """The reference with a naive error measured at another shape, relative to the largest size there."""
    if found.exact:
        return found
    error = min(relative, NAIVE_AT_MOST) * largest_size(found)
    return replace(found, naive=tuple(np.full_like(part, error) for part in found.expected))


def largest_size(found: Reference) -> float:
    """The largest of the expected values and of the sizes that rounding errors are relative to."""
    return max(_largest(found.expected), _largest(found.magnitude or ()))


def check(found: Reference, output: Array, poison: int | None = None) -> Verdict:
    """Compare an output with the reference. `poison` names the poison that must be gone everywhere."""
    worst = Verdict(0.0, 0.0)
    for block in range(len(found.rows)):
        verdict = _check_block(found, block, output)
        if verdict.problem:
            return verdict
        if verdict.max_error * (worst.tolerance or 1.0) >= worst.max_error * (verdict.tolerance or 1.0):
            worst = verdict
    if poison is not None and (problem := _left_poisoned(output, poison)):
        return replace(worst, problem=problem)
    return worst


def exact_for_integers(kernel: Kernel) -> bool:
    """Does every op stay exact in its type for whole inputs from -4 to 4, whatever the order of sums?"""
    most: dict[object, float] = {}
    for node in toposort(kernel.output):
        bounds = [most[source] for source in node.src]
        match node.op:
            case Op.PARAM:
                bound = 4.0
            case Op.CONST:
                bound = abs(float(node.arg))
                if node.arg != node.arg or bound == np.inf or int(node.arg) != node.arg:
                    return False
            case op if op in VIEWS or op in (Op.PAD, Op.NEG, Op.CAST, Op.TRUNC):
                bound = bounds[0]
            case Op.ADD | Op.SUB:
                bound = bounds[0] + bounds[1]
            case Op.MUL:
                bound = bounds[0] * bounds[1]
            case Op.MAX | Op.MIN | Op.WHERE:
                bound = max(bounds[-2:])
            case Op.REDUCE if node.arg[0] is not Op.MUL:
                length = prod(shape_of(node.src[0])[axis] for axis in node.arg[1])
                bound = bounds[0] * (length if node.arg[0] is Op.ADD else 1)
            case op if op in COMPARE or op in (Op.NOT, Op.AND, Op.OR, Op.XOR):
                bound = max(4.0, *bounds)
            case _:
                return False
        if bound > _exact_up_to(node):
            return False
        most[node] = bound
    return True


def _exact_up_to(node: UOp) -> float:
    """Whole numbers of at most this size are exact in the type of a node."""
    if node.dtype.is_float:
        return 2.0 ** (_rounded_to(node).mantissa + 1) - 1
    return float(node.dtype.high) if node.dtype.is_int else 4.0


def _rounded_to(node: UOp) -> DType:
    """The float type that a float node's value is rounded to: half types are computed in float32."""
    if node.op is Op.CAST or node.dtype.itemsize >= 4:
        return node.dtype
    return dt.float32


def roundoff(kernel: Kernel) -> float:
    """Half an ulp of 1 in the coarsest type that a kernel's values are rounded to on the way to its output.

    The output's own rounding does not count: it is an ulp of the result, not of what is summed.
    """
    inner = [n for n in toposort(kernel.output) if n.dtype.is_float and n.op not in (Op.PARAM, Op.CONST)]
    if kernel.output.op is Op.CAST and kernel.output.dtype.itemsize < 4:
        inner.remove(kernel.output)
    return max((unit_roundoff(_rounded_to(n)) for n in inner), default=unit_roundoff(dt.float64))


# -------------------------------------------------------------------------------------------- evaluation


def _sample(kernel: Kernel, seed: int, work: int) -> Rows:
    """Blocks of rows worth `work` steps: all of a small output, else both ends and random ones between."""
    shape = shape_of(kernel.output)
    rows = shape[0] if shape else 1
    steps = max([prod(shape), *(prod(shape_of(node.src[0])) for node in kernel.reduces)])
    share = min(work / max(1, steps), SAMPLED_OUTPUT / max(1, prod(shape)))
    if share >= 1 or rows <= BLOCKS:
        return ((0, rows),)
    block = max(1, int(rows * share / BLOCKS))
    generator = np.random.Generator(np.random.PCG64([seed, rows]))
    starts = {0, rows - block, *(int(s) for s in generator.integers(0, rows - block, BLOCKS - 2))}
    return tuple((start, start + block) for start in sorted(starts))


def _evaluate(kernel: Kernel, inputs: Sequence[Array], rows: Rows, exact: bool) -> tuple[Array, ...]:
    return tuple(evaluate_rows(kernel, inputs, start, stop, exact=exact) for start, stop in rows)


def _part(output: Array, rows: tuple[int, int]) -> Array:
    return output[rows[0] : rows[1]] if output.ndim else output


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, 0.0)


def _largest(parts: Sequence[Array]) -> float:
    return max((float(np.max(np.abs(_finite(part)), initial=0.0)) for part in parts), default=0.0)


# -------------------------------------------------------------------------------------------- comparison


def _check_block(found: Reference, block: int, output: Array) -> Verdict:
    got, expected = _part(output, found.rows[block]), found.expected[block]
    if not found.kernel.dtype.is_float:
        return _check_equal(got, expected, found.rows[block][0])
    value = got.astype(np.float64)
    rounded = stored(expected, found.kernel.dtype)
    with np.errstate(all="ignore"):
        error = np.abs(value - expected)
        tolerance = found.tolerances[block]
        same = (got == rounded) | (np.isnan(value) & np.isnan(expected))
        error = np.where(same & ~np.isfinite(error), 0.0, error)
        wrong = ~(same | (error <= tolerance))
    return _worst(value, expected, error, tolerance, wrong, found.rows[block][0])


def _tolerance(found: Reference, block: int) -> Array:
    expected = found.expected[block]
    if found.magnitude is None:
        return np.zeros_like(expected)
    size = np.maximum(np.abs(_finite(expected)), np.abs(_finite(found.magnitude[block])))
    rounding = roundoff(found.kernel) * sqrt(max(1, cost(found.kernel).reduction)) * size
    if found.naive is not None:
        rounding = np.maximum(rounding, found.naive[block])
    tolerance: Array = MARGIN * rounding + ulp(np.abs(_finite(expected)), found.kernel.dtype)
    return tolerance


def _check_equal(got: Array, expected: Array, first_row: int) -> Verdict:
    if got.dtype == np.bool_:
        got, expected = got.view(np.uint8), expected.view(np.uint8)  # a byte of 2 is no truth value
    error = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    return _worst(got, expected, error, np.zeros_like(error), got != expected, first_row)


def _worst(
    got: Array, expected: Array, error: Array, tolerance: Array, wrong: Array, first_row: int
) -> Verdict:
    if error.size == 0:
        return Verdict(0.0, 0.0)
    bad = np.nan_to_num(error, nan=np.inf)
    if wrong.any():
        bad = np.where(wrong, bad, -1.0)
        at = np.unravel_index(int(np.argmax(bad)), error.shape)
    else:
        at = np.unravel_index(int(np.argmax(bad / np.maximum(tolerance, 1e-300))), error.shape)
    error_at, tolerance_at = float(bad[at]), float(tolerance[at])
    if not wrong.any():
        return Verdict(error_at, tolerance_at)
    index = ", ".join(str(int(i) + (first_row if axis == 0 else 0)) for axis, i in enumerate(at))
    problem = (
        f"[{index}] is {got[at]:.9g}, expected {expected[at]:.9g} (tolerance {tolerance_at:.3g});"
        f" {int(wrong.sum())} of {wrong.size} elements differ"
    )
    return Verdict(error_at, tolerance_at, problem)


def _left_poisoned(output: Array, poison: int) -> str:
    """Elements nothing was written to; known for types of 4 bytes and more."""
    if output.dtype.itemsize < 4:
        return ""
    words = np.ascontiguousarray(output).reshape(-1).view(np.uint32)
    left = int(np.count_nonzero(words == POISONS[poison]))
    return f"{left} words of the output were never written" if left else ""
