"""Evaluating in parts: any rows of any composition of ops that move are the rows of the whole, whatever the tile."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import build
from engine import dtype as dt
from engine.build import cast, const, elementwise, param
from engine.ir import UOp
from engine.kernel import Kernel
from engine.ops import Op
from engine.runtime import interp
from engine.runtime.interp import evaluate, evaluate_rows
from engine.runtime.windows import hull, lengths, own_window, pad_places, slices, source_window, whole
from engine.shapes import Shape, shape_of
from tests.reference import assert_close, by_numpy

pytestmark = pytest.mark.slow

Draw = Callable[[st.SearchStrategy], object]
MOST = 600  # elements


def ints(draw: Draw, low: int, high: int) -> int:
    found = draw(st.integers(low, high))
    assert isinstance(found, int)
    return found


def _reshaped(x: UOp, draw: Draw) -> UOp:
    found = draw(st.sampled_from(factorings(shape_of(x))))
    assert isinstance(found, tuple)
    return build.reshape(x, found)


def factorings(shape: Shape) -> list[Shape]:
    """Other shapes of as many elements."""
    total = prod(shape)
    found: list[Shape] = [(total,), (1, total), (total, 1), tuple(reversed(shape)), (*shape, 1)]
    for i in (d for d in range(2, total) if total % d == 0):
        found += [(i, total // i)]
        found += [(i, j, total // i // j) for j in range(2, total // i) if total // i % j == 0]
    return found


def _permuted(x: UOp, draw: Draw) -> UOp:
    axes = draw(st.permutations(range(len(shape_of(x)))))
    assert isinstance(axes, list)
    return build.permute(x, tuple(axes))


def _expanded(x: UOp, draw: Draw) -> UOp:
    place, n = ints(draw, 0, len(shape_of(x))), ints(draw, 0, 3)
    shape = shape_of(x)
    return build.expand(
        build.reshape(x, (*shape[:place], 1, *shape[place:])), (*shape[:place], n, *shape[place:])
    )


def _padded(x: UOp, draw: Draw) -> UOp:
    return build.pad(x, [(ints(draw, 0, 2), ints(draw, 0, 2), ints(draw, 0, 2)) for _ in shape_of(x)])


def _shrunk(x: UOp, draw: Draw) -> UOp:
    part = []
    for n in shape_of(x):
        start = ints(draw, 0, n)
        part.append((start, ints(draw, start, n), ints(draw, 1, 3)))
    return build.shrink(x, part)


def _flipped(x: UOp, draw: Draw) -> UOp:
    return build.flip(x, tuple(axis for axis in range(len(shape_of(x))) if draw(st.booleans())))


def _index(shape: Shape, n: int, draw: Draw) -> UOp:
    """Numbers from 2 below 0 to 2 beyond n, computed from where they stand."""
    flat = build.reshape(build.iota(prod(shape)), shape)
    spread = elementwise(Op.MUL, flat, const(ints(draw, 1, 7), dt.int64, shape))
    turned = elementwise(Op.MOD, spread, const(n + 4, dt.int64, shape))
    return elementwise(Op.SUB, turned, const(2, dt.int64, shape))


def _gathered(x: UOp, draw: Draw) -> UOp:
    if not shape_of(x):
        return x
    axis = ints(draw, 0, len(shape_of(x)) - 1)
    shape = tuple(ints(draw, 0, 4) if i == axis else n for i, n in enumerate(shape_of(x)))
    return build.gather(x, _index(shape, shape_of(x)[axis], draw), axis)


def _scattered(x: UOp, draw: Draw) -> UOp:
    if not shape_of(x):
        return x
    axis, how = ints(draw, 0, len(shape_of(x)) - 1), draw(st.sampled_from(["set", "add", "max"]))
    shape = tuple(ints(draw, 0, 4) if i == axis else n for i, n in enumerate(shape_of(x)))
    start = const(1, x.dtype, shape)
    return build.scatter(start, _index(shape_of(x), shape[axis], draw), x, axis, str(how))


def _folded(x: UOp, draw: Draw) -> UOp:
    """Horner's rule along the first axis."""
    if not shape_of(x):
        return x
    shape = shape_of(x)[1:]
    two, zero = const(2, x.dtype, shape), const(0, x.dtype, shape)

    def body(step: UOp, states: tuple[UOp, ...], parts: tuple[UOp, ...]) -> list[UOp]:
        scaled = elementwise(Op.MUL, states[0], two)
        counted = build.broadcast(cast(step, x.dtype), shape)
        return [elementwise(Op.ADD, elementwise(Op.ADD, scaled, parts[0]), counted)]

    return build.fold(shape_of(x)[0], [zero], [x], body)[0]


def _counted(x: UOp, draw: Draw) -> UOp:
    if not shape_of(x):
        return x
    numbers = build.iota_along(shape_of(x), ints(draw, 0, len(shape_of(x)) - 1))
    return elementwise(Op.ADD, x, cast(numbers, x.dtype))


def _as_bits(x: UOp, draw: Draw) -> UOp:
    return build.bitcast(x, dt.uint32 if x.dtype is dt.int32 else dt.int32)


def _reduced(x: UOp, draw: Draw) -> UOp:
    axes = tuple(axis for axis in range(len(shape_of(x))) if draw(st.booleans()))
    return build.reduce(Op.ADD, x, axes)


MOVES = (
    *(_reshaped, _reshaped, _permuted, _permuted, _expanded, _padded, _shrunk, _flipped),
    *(_gathered, _scattered, _folded, _counted, _as_bits, _reduced),
)


def drawn(draw: Draw, moves: int = 6) -> UOp:
    """A composition of up to `moves` ops on a PARAM of int32."""
    shape = draw(st.lists(st.integers(0, 5), max_size=4).map(tuple))
    assert isinstance(shape, tuple)
    node = param(0, shape, dt.int32)
    for move in draw(st.lists(st.sampled_from(MOVES), min_size=1, max_size=moves)):  # type: ignore[attr-defined]
        found = move(node, draw)
        if prod(shape_of(found)) <= MOST and len(shape_of(found)) <= 6:
            node = found
    return node


@pytest.mark.parametrize("tile", [1, 5, 40, interp.TILE])
def test_compositions_evaluate_as_numpy_does_in_whole_and_in_rows(tile: int) -> None:
    @settings(deadline=None, max_examples=120, derandomize=True)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        node = drawn(data.draw)
        kernel = Kernel(node)
        inputs = [np.arange(prod(p.arg[1]), dtype=np.int32).reshape(p.arg[1]) * 3 - 20 for p in kernel.params]
        wanted = by_numpy(node, dict(zip(kernel.params, inputs, strict=True)))
        found = evaluate(kernel, inputs)
        assert_close(found, wanted, "whole")
        rows = shape_of(node)[0] if shape_of(node) else 1
        start = ints(data.draw, 0, rows)
        stop = ints(data.draw, start, rows)
        part = evaluate_rows(kernel, inputs, start, stop)
        np.testing.assert_array_equal(part, found[start:stop] if shape_of(node) else found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interp, "TILE", tile)
        patch.setattr(interp, "BLOCK", 4 * tile)
        check()


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_window_of_one_op_is_computed_from_its_sources_windows(data: st.DataObject) -> None:
    moves = (_reshaped, _permuted, _expanded, _padded, _shrunk, _flipped)
    shape = tuple(data.draw(st.lists(st.integers(1, 5), max_size=4)))
    node = data.draw(st.sampled_from(moves))(param(0, shape, dt.int32), data.draw)
    wanted = tuple((start := ints(data.draw, 0, n), ints(data.draw, start, n)) for n in shape_of(node))
    own = own_window(node, wanted)
    assert hull(own, wanted) == own
    for number, source in enumerate(node.src):
        needed = source_window(node, number, own)
        assert all(0 <= a <= b <= n for (a, b), n in zip(needed, shape_of(source), strict=True))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_elements_of_a_window_of_a_pad_are_where_they_are_in_the_whole(data: st.DataObject) -> None:
    n = ints(data.draw, 0, 6)
    node = UOp(
        Op.PAD, dt.int32, (param(0, (n,), dt.int32),), (tuple(ints(data.draw, 0, 3) for _ in range(3)),)
    )
    x = np.arange(1, n + 1)
    full = by_numpy(node, {node.src[0]: x}).value
    start = ints(data.draw, 0, len(full))
    window = ((start, ints(data.draw, start, len(full))),)
    held = source_window(node, 0, window)
    source, target = pad_places(node, window, held)
    found = np.zeros(lengths(window), x.dtype)
    found[target] = x[slices(held, whole((n,)))][source]
    np.testing.assert_array_equal(found, full[slices(window, whole(full.shape))])


def test_a_big_reduction_behind_views_is_evaluated_in_tiles() -> None:
    """64 million products of a flipped, padded and strided read: half a GB at once in float64."""
    x = param(0, (4000,), dt.float32)
    ends = build.shrink(build.pad(build.flip(x, (0,)), [(3, 5, 1)]), [(3, 3 + 2 * 4000 - 1, 2)])
    outer = elementwise(
        Op.MUL,
        build.broadcast(build.reshape(ends, (4000, 1)), (4000, 16_000)),
        build.broadcast(cast(build.iota(16_000), dt.float32), (4000, 16_000)),
    )
    array = np.random.default_rng(0).standard_normal(4000, dtype=np.float32)
    total = 16_000 * 15_999 / 2
    kernel = Kernel(build.reduce(Op.ADD, outer, (1,)))
    np.testing.assert_allclose(
        evaluate(kernel, [array], exact=True), array[::-1].astype(float) * total, rtol=1e-12
    )
    np.testing.assert_array_equal(
        evaluate_rows(kernel, [array], 100, 103), evaluate(kernel, [array])[100:103]
    )


def test_rows_of_a_reduction_need_only_their_own_rows_of_a_huge_shape() -> None:
    ones = const(1, dt.int64, (1 << 40, 3))
    numbered = elementwise(Op.ADD, ones, build.iota_along((1 << 40, 3), 0))
    kernel = Kernel(build.reduce(Op.ADD, numbered, (1,)))
    assert evaluate_rows(kernel, [], (1 << 39), (1 << 39) + 2).tolist() == [
        3 * (1 << 39) + 3,
        3 * (1 << 39) + 6,
    ]


def test_rows_of_a_gather_from_rows_need_the_whole_axis_only() -> None:
    x = param(0, (50, 4), dt.int32)
    index = build.broadcast(build.reshape(param(1, (20,), dt.int32), (20, 1)), (20, 4))
    kernel = Kernel(build.gather(x, index, 0))
    array = np.arange(200, dtype=np.int32).reshape(50, 4)
    places = np.array([49, -1, 50, 0, *range(16)], np.int32)
    got = evaluate_rows(kernel, [array, places], 0, 4)
    np.testing.assert_array_equal(got, [array[49], [0] * 4, [0] * 4, array[0]])
