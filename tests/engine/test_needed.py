"""engine.needed: what of a kernel's output nobody looks at, asked from the results back."""

from __future__ import annotations

import pytest

from engine import dtype as dt
from engine.build import broadcast, const, elementwise, expand, gather, pad, param, permute, reduce, reshape
from engine.ir import UOp
from engine.kernel import Kernel
from engine.leading import is_inside
from engine.needed import ALL, Need, Needed, Ran, needed
from engine.ops import Op
from engine.order import fresh_buffer
from engine.shapes import Shape
from engine.simplify import simplify
from engine.sizes import Count, Var, open_size

N = Var("n", 1, 8)
COUNT, X, Y, Z = range(4)  # slots
COUNTED = fresh_buffer((), dt.int64)
FRONT: Need = {0: (COUNT, 1)}


def x(*shape: int) -> UOp:
    return param(0, shape, dt.float32)


def of_second(second: UOp, shape: Shape = (8, 4), need: Need = FRONT) -> Needed | None:
    """What is needed of a first kernel's output, (8, 4), that `second` makes a result of."""
    first = Ran(Kernel(elementwise(Op.NEG, x(8, 4))), (X,), Y)
    inputs = (Y, COUNT)[: len(Kernel(second).params)]
    return needed([first, Ran(Kernel(second), inputs, Z)], {COUNT: 8}, [(Z, shape, need)])[0]


def masked(value: UOp, unit: int = 1) -> UOp:
    """`value`, with zeros behind count · unit of its first axis, as a kernel's definition."""
    shape = value.arg[1] if value.op is Op.PARAM else tuple(value.arg)
    size = open_size(Count(N, COUNTED), unit)
    inside = is_inside(size, shape, 0)
    return elementwise(Op.WHERE, inside, value, broadcast(const(0.0, dt.float32), shape))


def counting(node: UOp) -> UOp:
    """The definition with the count as its second input."""
    found: UOp = simplify(node)
    memo: dict[UOp, UOp] = {COUNTED: param(1, (), dt.int64)}
    stack = [found]
    while stack:
        below = stack[-1]
        missing = [source for source in below.src if source not in memo]
        if below in memo or missing:
            stack.extend(missing)
            if below in memo:
                stack.pop()
            continue
        memo[below] = below.replace(src=tuple(memo[source] for source in below.src)) if below.src else below
    return memo[found]


ONE = Needed(0, 1, COUNT)


@pytest.mark.parametrize(
    ("second", "shape", "wanted"),
    [
        (elementwise(Op.NEG, x(8, 4)), (8, 4), ONE),
        (reduce(Op.ADD, x(8, 4), (1,)), (8,), ONE),
        (reduce(Op.ADD, x(8, 4), (0,)), (4,), None),
        (expand(reshape(x(8, 4), (8, 1, 4)), (8, 3, 4)), (8, 3, 4), ONE),
        (pad(x(8, 4), [(0, 0, 0), (1, 1, 0)]), (8, 6), ONE),
        (pad(x(8, 4), [(0, 1, 0), (0, 0, 0)]), (9, 4), None),
        (gather(x(8, 4), const(3, dt.int64, (8, 1)), 1), (8, 1), ONE),
        (gather(x(8, 4), const(3, dt.int64, (8, 4)), 0), (8, 4), None),
    ],
)
def test_what_a_result_needs_of_what_it_reads(second: UOp, shape: Shape, wanted: Needed | None) -> None:
    assert of_second(second, shape, FRONT if shape[0] in (8, 9) else ALL) == wanted


def test_views_move_the_bound_and_change_its_unit() -> None:
    turned = permute(x(8, 4), (1, 0))
    assert of_second(turned, (4, 8), {1: (COUNT, 1)}) == ONE
    assert of_second(reshape(x(8, 4), (32,)), (32,), {0: (COUNT, 4)}) == ONE
    assert of_second(reshape(x(8, 4), (16, 2)), (16, 2), {0: (COUNT, 2)}) == ONE
    assert of_second(reshape(x(8, 4), (32,)), (32,), {0: (COUNT, 1)}) is None  # rows in parts


def test_a_sum_of_what_is_masked_needs_no_more_than_the_mask_lets_through() -> None:
    total = counting(reduce(Op.ADD, masked(x(8, 4)), (0,)))
    assert of_second(total, (4,), ALL) == ONE
    flat = counting(reduce(Op.ADD, masked(reshape(x(8, 4), (32,)), 4), (0,)))
    assert of_second(flat, (), ALL) == ONE


def test_another_condition_is_no_mask() -> None:
    above = elementwise(Op.LT, x(8, 4), broadcast(const(0.0, dt.float32), (8, 4)))
    chosen = elementwise(Op.WHERE, above, x(8, 4), broadcast(const(0.0, dt.float32), (8, 4)))
    assert of_second(reduce(Op.ADD, chosen, (0,)), (4,), ALL) is None


def test_all_readers_count() -> None:
    def steps(second: UOp, third: UOp) -> Needed | None:
        first = Ran(Kernel(elementwise(Op.NEG, x(8, 4))), (X,), Y)
        readers = [Ran(Kernel(second), (Y,), Z), Ran(Kernel(third), (Y,), 9)]
        results = [(Z, (8, 4), FRONT), (9, (8, 4), FRONT)]
        return needed([first, *readers], {COUNT: 8}, results)[0]

    twice = elementwise(Op.ADD, x(8, 4), x(8, 4))
    assert steps(twice, elementwise(Op.NEG, x(8, 4))) == ONE
    total = expand(reshape(reduce(Op.ADD, x(8, 4), (0,)), (1, 4)), (8, 4))
    assert steps(twice, total) is None


def test_a_result_that_is_wanted_whole_is_computed_whole() -> None:
    assert of_second(elementwise(Op.NEG, x(8, 4)), (8, 4), ALL) is None
