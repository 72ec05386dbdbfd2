"""Shrunk kernels keep their structure and lose their size."""

from __future__ import annotations

from math import prod

from engine.dtype import DType, float32
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.programs import program
from engine.shapes import shape_of
from engine.shrink import shrink, structure


def param(slot: int, *shape: int, dtype: DType = float32) -> UOp:
    return UOp(Op.PARAM, dtype, (), (slot, shape))


def view(op: Op, source: UOp, arg: tuple[int, ...]) -> UOp:
    return UOp(op, source.dtype, (source,), arg)


def gemm(m: int, n: int, k: int) -> Kernel:
    a = view(Op.EXPAND, view(Op.RESHAPE, param(0, m, k), (m, 1, k)), (m, n, k))
    b = view(Op.RESHAPE, view(Op.PERMUTE, param(1, k, n), (1, 0)), (1, n, k))
    product = UOp(Op.MUL, float32, (a, view(Op.EXPAND, b, (m, n, k))))
    return Kernel(UOp(Op.REDUCE, float32, (product,), (Op.ADD, (2,))))


def shapes(kernel: Kernel) -> list[tuple[int, ...]]:
    return [shape_of(node) for node in (*kernel.params, kernel.output)]


def test_a_gemm_shrinks_to_three_different_ragged_sizes_that_still_fit_together() -> None:
    (m, k), (k2, n), out = shapes(shrink(gemm(512, 1024, 2048)))
    assert (k2, out) == (k, (m, n))
    assert len({m, n, k}) == 3
    assert all(100 < size < 200 and size % 2 and size % 3 for size in (m, n, k))


def test_the_ops_and_their_order_stay() -> None:
    kernel = gemm(512, 512, 512)
    small = shrink(kernel)
    assert [n.op for n in toposort(small.output)] == [n.op for n in toposort(kernel.output)]


def test_sizes_that_are_already_small_stay() -> None:
    assert shapes(shrink(gemm(3, 5, 7))) == [(3, 7), (7, 5), (3, 5)]


def test_a_small_round_size_becomes_ragged() -> None:
    (m, k), (_, n), _ = shapes(shrink(gemm(64, 64, 64)))
    assert {m, n, k} == {61, 59, 53}


def test_what_a_short_axis_leaves_goes_to_the_long_one() -> None:
    (m, k), _, _ = shapes(shrink(gemm(1, 4, 1 << 20)))
    assert m == 1
    assert 450 < k <= 521


def test_operands_of_an_elementwise_op_shrink_together() -> None:
    a, b = param(0, 4096, 512), param(1, 4096, 512)
    first, second, out = shapes(shrink(Kernel(UOp(Op.ADD, float32, (a, b)))))
    assert first == second == out
    assert prod(out) < prod((4096, 512))


def test_a_merging_reshape_multiplies_the_small_sizes() -> None:
    (rows, heads, width), out = shapes(shrink(Kernel(view(Op.RESHAPE, param(0, 640, 32, 128), (640, 4096)))))
    assert out == (rows, heads * width)
    assert rows < 640


def test_a_splitting_reshape_of_an_input_divides_it() -> None:
    (rows, flat), out = shapes(shrink(Kernel(view(Op.RESHAPE, param(0, 640, 4096), (640, 32, 128)))))
    assert out == (rows, out[1], out[2])
    assert flat == out[1] * out[2]


def test_sizes_that_do_not_line_up_stay() -> None:
    skewed = Kernel(view(Op.RESHAPE, param(0, 600, 700), (700, 600)))
    assert shapes(shrink(skewed)) == [(600, 700), (700, 600)]


def test_an_axis_tied_to_one_that_stays_stays_too() -> None:
    skewed = view(Op.RESHAPE, param(0, 600, 700), (700, 600))
    total = UOp(Op.ADD, float32, (skewed, param(1, 700, 600)))
    assert shapes(shrink(Kernel(total))) == [(600, 700), (700, 600), (700, 600)]


def test_empty_and_scalar_kernels_stay_as_they_are() -> None:
    for shape in ((0, 4), (4, 0, 3), ()):
        kernel = Kernel(UOp(Op.NEG, float32, (param(0, *shape),)))
        assert shrink(kernel).output is kernel.output
    empty = Kernel(view(Op.RESHAPE, param(0, 0, 8), (4, 0)))
    assert shrink(empty).output is empty.output


def test_a_broadcast_axis_stays_one_on_the_side_that_lacks_it() -> None:
    row = view(Op.EXPAND, view(Op.RESHAPE, param(1, 2000), (1, 2000)), (3000, 2000))
    (m, n), (width,), out = shapes(shrink(Kernel(UOp(Op.ADD, float32, (param(0, 3000, 2000), row)))))
    assert (n, out) == (width, (m, n))


def test_kernels_that_differ_in_long_sizes_alone_have_one_structure() -> None:
    wanted = structure(program("gemm", [1024, 1024, 1024]))
    for shape in ([512, 512, 512], [1000, 1013, 991], [14, 2000, 300]):
        assert structure(program("gemm", shape)) == wanted
    assert structure(program("gemm", [1024, 1024, 8])) != wanted  # a short size is another kernel
    assert structure(program("gemm", [1024, 1, 1024])) != wanted
    assert structure(program("reduce", [1024, 1024])) != wanted
    assert structure(wanted) == wanted
