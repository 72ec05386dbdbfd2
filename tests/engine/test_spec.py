"""engine.spec: what each level refuses, and that the error names the pass."""

from __future__ import annotations

import re

import pytest

from engine import dtype as dt
from engine.build import const, param
from engine.dtype import DType
from engine.errors import VerifyError
from engine.ir import UOp
from engine.ops import HoleKind, Op
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


X = param(3, (4, 3), dt.float32)
AT = param(4, (5, 3), dt.int32)
U = param(5, (5, 3), dt.float32)
E8 = param(6, (2, 3), dt.float8_e5m2)
STATE = UOp(Op.HOLE, dt.float32, (), (90, HoleKind.STATE, 0, (3,)))
PART = UOp(Op.HOLE, dt.float32, (), (90, HoleKind.X, 0, (3,)))
ROW = param(7, (3,), dt.float32)
BODY = UOp(Op.ADD, dt.float32, (STATE, PART))


def folded(*src: UOp, arg: object = (90, 4, 1), dtype: DType = dt.void) -> UOp:
    return UOp(Op.FOLD, dtype, src, arg)


def hole(kind: HoleKind, number: int, shape: tuple[int, ...], dtype: DType = dt.float32) -> UOp:
    return UOp(Op.HOLE, dtype, (), (90, kind, number, shape))


GET = UOp(Op.GET, dt.float32, (folded(ROW, X, BODY),), 0)

# (a node, what is said of it)
VIOLATIONS: list[tuple[UOp, str]] = [
    (UOp(Op.ADD, dt.float32, (GET.src[0], GET.src[0])), "has no value"),
    (UOp(Op.ADD, dt.float8_e5m2, (E8, E8)), "not a number"),
    (UOp(Op.LT, dt.bool_, (E8, E8)), "for storage"),
    (UOp(Op.SQRT, dt.float8_e5m2, (E8,)), "a float to compute in"),
    (UOp(Op.TRUNC, dt.int32, (N,)), "a float to compute in"),
    (UOp(Op.SHL, dt.float32, (F, F)), "an integer"),
    (UOp(Op.SHR, dt.bool_, (B, B)), "an integer"),
    (UOp(Op.AND, dt.float32, (F, F)), "bool or an integer"),
    (UOp(Op.NEG, dt.bool_, (B,)), "not a number"),
    (UOp(Op.CAST, dt.int32, (F,), "x"), "takes no arg"),
    (UOp(Op.CAST, dt.int32, (F, F)), "has 2 sources, not 1"),
    (UOp(Op.BITCAST, dt.bool_, (param(8, (2,), dt.uint8),)), "a bool has one bit"),
    (UOp(Op.BITCAST, dt.uint8, (B,)), "a bool has one bit"),
    (UOp(Op.BITCAST, dt.void, (F,)), "between numbers"),
    (UOp(Op.BITCAST, dt.int64, (F,)), "the sizes differ"),
    (UOp(Op.CONST, dt.void, (), 1.0), "has no value"),
    (UOp(Op.CONST, dt.uint8, (), -1), "does not fit"),
    (UOp(Op.CONST, dt.uint8, (), True), "must be a Python int"),
    (UOp(Op.CONST, dt.float32, (F,), 1.0), "must be a Python float"),
    (UOp(Op.PARAM, dt.float32, (), (0,)), "must be (number, shape)"),
    (UOp(Op.PARAM, dt.float32, (), (-1, (2,))), "negative"),
    (UOp(Op.PARAM, dt.float32, (), (0, (2, -3))), "negative"),
    (UOp(Op.PARAM, dt.void, (), (0, (2,))), "has no value"),
    (UOp(Op.RESHAPE, dt.int32, (F,), (6,)), "has a source of float32"),
    (UOp(Op.FLIP, dt.float32, (F, F), (0,)), "needs one source"),
    (UOp(Op.FLIP, dt.float32, (F,), (True,)), "tuple of ints"),
    (UOp(Op.SHRINK, dt.float32, (F,), ((0, 2), (0, 3))), "three ints an axis"),
    (UOp(Op.PAD, dt.float32, (F,), ((0, 0, 0.5), (0, 0, 0))), "three ints an axis"),
    (UOp(Op.PAD, dt.int32, (F,), ((0, 0, 0), (0, 0, 0))), "has a source of float32"),
    (UOp(Op.IOTA, dt.int64, (), -1), "0 or more"),
    (UOp(Op.IOTA, dt.int64, (F,), 3), "no sources"),
    (UOp(Op.IOTA, dt.int32, (), 3), "is int64"),
    (UOp(Op.GATHER, dt.float32, (X, AT)), "an axis"),
    (UOp(Op.GATHER, dt.float32, (X,), 0), "1 sources"),
    (UOp(Op.GATHER, dt.int32, (X, AT), 0), "gathers float32"),
    (UOp(Op.GATHER, dt.float32, (X, U), 0), "indexes with float32"),
    (UOp(Op.SCATTER, dt.float32, (X, AT, U), 0), "(how, axis)"),
    (UOp(Op.SCATTER, dt.float32, (X, AT), ("set", 0)), "2 sources"),
    (UOp(Op.SCATTER, dt.float32, (X, AT, U), ("min", 0)), "cannot scatter by 'min'"),
    (UOp(Op.SCATTER, dt.float32, (X, AT, AT), ("set", 0)), "sources of float32, int32"),
    (UOp(Op.SCATTER, dt.float32, (X, U, U), ("set", 0)), "indexes with float32"),
    (UOp(Op.SCATTER, dt.bool_, (B, N, B), ("add", 0)), "computes in no number"),
    (folded(ROW, X, BODY, arg=(90, 4)), "(id, steps, states)"),
    (folded(ROW, X, BODY, arg=(90, -1, 1)), "(id, steps, states)"),
    (folded(ROW, X, BODY, arg=(90, 4, 0)), "(id, steps, states)"),
    (folded(ROW, X, BODY, dtype=dt.float32), "is void"),
    (folded(ROW), "an init and a body for each state"),
    (folded(ROW, X, UOp(Op.CAST, dt.int32, (BODY,))), "starts and goes on as float32 and int32"),
    (folded(ROW, X, UOp(Op.RESHAPE, dt.float32, (BODY,), (1, 3))), "goes on as (1, 3)"),
    (folded(ROW, F, BODY), "has not 4 steps"),
    (folded(ROW, X, UOp(Op.ADD, dt.float32, (BODY, ROW))), "reads a PARAM"),
    (
        folded(ROW, X, UOp(Op.ADD, dt.float32, (BODY, hole(HoleKind.X, 1, (3,))))),
        "x 1 is not as the HOLE says",
    ),
    (folded(ROW, X, UOp(Op.ADD, dt.float32, (BODY, hole(HoleKind.STATE, 1, (3,))))), "state 1 is not"),
    (folded(ROW, param(9, (4, 2), dt.float32), BODY), "x 0 is not as the HOLE says"),
    (folded(ROW, X, UOp(Op.ADD, dt.float32, (BODY, hole(HoleKind.STEP, 0, (3,))))), "step 0 is not"),
    (UOp(Op.GET, dt.float32, (ROW,), 0), "takes a FOLD"),
    (UOp(Op.GET, dt.float32, GET.src, 1), "no state 1 of 1"),
    (UOp(Op.GET, dt.float32, GET.src, -1), "no state -1"),
    (UOp(Op.GET, dt.int32, GET.src, 0), "the state is float32"),
    (UOp(Op.HOLE, dt.float32, (), (90, "state", 0, ())), "HoleKind"),
    (UOp(Op.HOLE, dt.float32, (), (90, HoleKind.X, -1, ())), "wrong type"),
    (UOp(Op.HOLE, dt.float32, (), (90, HoleKind.X, 0, (2.0,))), "wrong type"),
    (UOp(Op.HOLE, dt.float32, (), (90, HoleKind.X, 0, (-2,))), "wrong type"),
    (UOp(Op.HOLE, dt.void, (), (90, HoleKind.X, 0, ())), "has no value"),
    (UOp(Op.REDUCE, dt.float8_e5m2, (E8,), (Op.ADD, (0,))), "not a number"),
    (UOp(Op.REDUCE, dt.float32, (F,), (0,)), "(op, axes)"),
    (UOp(Op.REDUCE, dt.int32, (F,), (Op.ADD, (0,))), "has a source of float32"),
]


@pytest.mark.parametrize(
    ("node", "words"), VIOLATIONS, ids=[f"{node.op.value} {words}" for node, words in VIOLATIONS]
)
def test_what_is_wrong_with_a_node_is_said(node: UOp, words: str) -> None:
    for level in (Level.DEFINITION, Level.TENSOR):
        with pytest.raises(VerifyError, match=re.escape(words)) as caught:
            verify(node, level, "some pass")
        assert caught.value.op == node.op.value or node.op is Op.ADD


ASSIGNED = UOp(Op.BUFFER, dt.float32, (), (0, (2, 3)))


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (UOp(Op.ASSIGN, dt.float32, (F, F)), "takes a BUFFER"),
        (UOp(Op.ASSIGN, dt.float32, (ASSIGNED,)), "takes a BUFFER"),
        (UOp(Op.ASSIGN, dt.float32, (ASSIGNED, N)), "has a source of int32"),
        (UOp(Op.ASSIGN, dt.float32, (ASSIGNED, X)), "cannot assign (4, 3) to (2, 3)"),
        (UOp(Op.CONTIGUOUS, dt.float32, (F,), "cache"), "one of global, local, register"),
        (UOp(Op.CONTIGUOUS, dt.float32, (N,), "global"), "has a source of int32"),
        (UOp(Op.BUFFER, dt.float32, (), (0, (2, -3))), "negative"),
    ],
)
def test_what_is_wrong_at_the_tensor_level_is_said(node: UOp, words: str) -> None:
    with pytest.raises(VerifyError, match=re.escape(words)):
        verify(node, Level.TENSOR, "some pass")


def test_a_fold_with_all_its_holes_in_its_body_is_fine() -> None:
    verify(GET, Level.DEFINITION, "some pass")
    verify(UOp(Op.ADD, dt.float32, (GET, ROW)), Level.TENSOR, "some pass")


@pytest.mark.parametrize(
    "node",
    [
        STATE,
        UOp(Op.ADD, dt.float32, (GET, STATE)),
        UOp(Op.ADD, dt.float32, (GET, BODY)),
        UOp(Op.GET, dt.float32, (folded(PART, X, BODY),), 0),
        UOp(
            Op.GET,
            dt.float32,
            (
                folded(
                    ROW,
                    X,
                    UOp(Op.ADD, dt.float32, (BODY, UOp(Op.HOLE, dt.float32, (), (91, HoleKind.X, 0, (3,))))),
                ),
            ),
            0,
        ),
    ],
)
def test_a_hole_outside_the_body_of_its_fold_is_refused(node: UOp) -> None:
    verify(GET, Level.DEFINITION, "an earlier pass")
    for _ in range(2):  # what was seen before is no excuse
        with pytest.raises(VerifyError, match="HOLE: stands outside the body of its FOLD"):
            verify(node, Level.DEFINITION, "some pass")


def test_a_fold_in_the_body_of_another_may_read_the_holes_of_both() -> None:
    inner = UOp(Op.HOLE, dt.float32, (), (92, HoleKind.STATE, 0, (3,)))
    body = UOp(Op.ADD, dt.float32, (inner, PART))
    loop = UOp(Op.FOLD, dt.void, (STATE, body), (92, 2, 1))
    outer = folded(ROW, X, UOp(Op.GET, dt.float32, (loop,), 0))
    verify(UOp(Op.GET, dt.float32, (outer,), 0), Level.DEFINITION, "some pass")


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
