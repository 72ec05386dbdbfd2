"""engine.spec: what each level refuses, and that the error names the pass."""

from __future__ import annotations

import pytest

from engine import dtype as dt
from engine.build import const, param
from engine.dtype import DType
from engine.errors import VerifyError
from engine.ir import UOp
from engine.ops import Op
from engine.opts import RangeType
from engine.spec import Level, problem, verify

F = param(0, (2, 3), dt.float32)
N = param(1, (2, 3), dt.int32)
B = param(2, (2, 3), dt.bool_)


@pytest.mark.parametrize(
    "node",
    [
        UOp(Op.ADD, dt.float32, (F, N)),
        UOp(Op.ADD, dt.bool_, (B, B)),
        UOp(Op.ADD, dt.float32, (F,)),
        UOp(Op.ADD, dt.float32, (F, F), 3),
        UOp(Op.EXP, dt.int32, (N,)),
        UOp(Op.IDIV, dt.float32, (F, F)),
        UOp(Op.DIV, dt.int32, (N, N)),
        UOp(Op.NOT, dt.float32, (F,)),
        UOp(Op.LT, dt.float32, (F, F)),
        UOp(Op.LT, dt.bool_, (B, B)),
        UOp(Op.EQ, dt.bool_, (F, N)),
        UOp(Op.WHERE, dt.float32, (N, F, F)),
        UOp(Op.WHERE, dt.float32, (B, F, N)),
        UOp(Op.CAST, dt.void, (F,)),
        UOp(Op.CONST, dt.int32, (), 1.0),
        UOp(Op.CONST, dt.float32, (), 1),
        UOp(Op.CONST, dt.int32, (), 1 << 31),
        UOp(Op.CONST, dt.bool_, (), 1),
        UOp(Op.RESHAPE, dt.float32, (F,), (7,)),
        UOp(Op.RESHAPE, dt.float32, (F,), (6.0,)),
        UOp(Op.PERMUTE, dt.float32, (F,), (0, 0)),
        UOp(Op.EXPAND, dt.float32, (F,), (2, 4)),
        UOp(Op.REDUCE, dt.float32, (F,), (Op.SUB, (0,))),
        UOp(Op.REDUCE, dt.float32, (F,), (Op.ADD, (2,))),
        UOp(Op.REDUCE, dt.bool_, (B,), (Op.MAX, (0,))),
        UOp(Op.REDUCE, dt.float32, (param(3, (2, 0), dt.float32),), (Op.MAX, (1,))),
        UOp(Op.MULACC, dt.float32, (F, F, F)),
        UOp(Op.RANGE, dt.int64, (), (0, 3, RangeType.LOOP)),
        UOp(Op.BUFFER, dt.float32, (), (0, (2, 3))),
        UOp(Op.CONTIGUOUS, dt.float32, (F,), "global"),
    ],
)
def test_a_definition_refuses(node: UOp) -> None:
    with pytest.raises(VerifyError, match=f"after some pass: {node.op.value}"):
        verify(node, Level.DEFINITION, "some pass")


def test_a_maximum_over_no_elements_is_fine_when_there_are_no_results() -> None:
    verify(UOp(Op.REDUCE, dt.float32, (param(0, (0, 0), dt.float32),), (Op.MAX, (1,))), Level.DEFINITION, "x")


def test_the_tensor_level_has_buffers_and_contiguous() -> None:
    buffer = UOp(Op.BUFFER, dt.float32, (), (0, (2, 3)))
    verify(UOp(Op.CONTIGUOUS, dt.float32, (buffer,), "global"), Level.TENSOR, "x")


def test_the_offending_node_may_lie_deep() -> None:
    bad = UOp(Op.EXP, dt.int32, (N,))
    with pytest.raises(VerifyError) as caught:
        verify(UOp(Op.NEG, dt.int32, (bad,)), Level.DEFINITION, "fuse")
    assert (caught.value.stage, caught.value.op) == ("fuse", "EXP")


# ------------------------------------------------------------------------------------- a lowered kernel

RANGE = UOp(Op.RANGE, dt.int64, (), (0, 6, RangeType.LOOP))


def address(dtype: DType = dt.float32, *valid: UOp) -> UOp:
    return UOp(Op.INDEX, dtype, (param(0, (6,), dtype), RANGE, *valid))


def load(*valid: UOp) -> UOp:
    return UOp(
        Op.LOAD, dt.float32, (address(dt.float32, *valid), *([const(0.0, dt.float32)] if valid else []))
    )


def test_a_loop_over_a_store_is_a_kernel() -> None:
    store = UOp(Op.STORE, dt.void, (address(), UOp(Op.MULACC, dt.float32, (load(), load(), load()))))
    end = UOp(Op.END, dt.void, (store, RANGE))
    verify(UOp(Op.SINK, dt.void, (end,)), Level.KERNEL, "lower")


def test_an_accumulator_is_read_after_the_loop_that_fills_it() -> None:
    acc = UOp(Op.ACC, dt.float32, (), (0, 4))
    place = UOp(Op.INDEX, dt.float32, (acc, const(0, dt.int64)))
    end = UOp(Op.END, dt.void, (UOp(Op.STORE, dt.void, (place, load())), RANGE))
    after = UOp(Op.INDEX, dt.float32, (UOp(Op.AFTER, dt.float32, (acc, end)), const(0, dt.int64)))
    store = UOp(Op.STORE, dt.void, (address(), UOp(Op.LOAD, dt.float32, (after,))))
    verify(UOp(Op.SINK, dt.void, (store,)), Level.KERNEL, "lower")


GUARD = UOp(Op.LT, dt.bool_, (RANGE, const(5, dt.int64)))


@pytest.mark.parametrize(
    "node",
    [
        UOp(Op.RANGE, dt.int32, (), (0, 6, RangeType.LOOP)),
        UOp(Op.RANGE, dt.int64, (), (0, 6)),
        UOp(Op.RANGE, dt.int64, (), (0, -1, RangeType.LOOP)),
        UOp(Op.ACC, dt.float32, (), (0, 0)),
        UOp(Op.INDEX, dt.int32, (param(0, (6,), dt.float32), RANGE)),
        UOp(Op.INDEX, dt.float32, (param(0, (6,), dt.float32), const(0, dt.int32))),
        UOp(Op.INDEX, dt.float32, (load(), RANGE)),
        UOp(Op.INDEX, dt.float32, (param(0, (6,), dt.float32), RANGE, RANGE)),
        UOp(Op.LOAD, dt.int32, (address(),)),
        UOp(Op.LOAD, dt.float32, (param(0, (6,), dt.float32),)),
        UOp(Op.LOAD, dt.float32, (address(dt.float32, GUARD),)),
        UOp(Op.LOAD, dt.float32, (address(), const(0.0, dt.float32))),
        UOp(Op.STORE, dt.void, (address(), RANGE)),
        UOp(Op.STORE, dt.float32, (address(), load())),
        UOp(Op.END, dt.void, (load(), RANGE)),
        UOp(Op.END, dt.void, (UOp(Op.STORE, dt.void, (address(), load())), load())),
        UOp(Op.AFTER, dt.float32, (load(), load())),
        UOp(Op.SINK, dt.void, (load(),)),
        UOp(Op.RESHAPE, dt.float32, (load(),), (1,)),
        UOp(Op.REDUCE, dt.float32, (load(),), (Op.ADD, (0,))),
    ],
)
def test_a_lowered_kernel_refuses(node: UOp) -> None:
    assert problem(node, Level.KERNEL)
    with pytest.raises(VerifyError, match="after lower"):
        verify(node, Level.KERNEL, "lower")


def test_a_guarded_load_says_what_it_gives_outside() -> None:
    verify(load(GUARD), Level.KERNEL, "lower")
