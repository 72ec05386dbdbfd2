"""What random graphs are made of: dtypes and ops, for different readers (see tests.graphs)."""

from __future__ import annotations

from dataclasses import dataclass

from engine import dtype as dt
from engine.dtype import DTYPES, DType
from engine.ops import VIEWS, Op


@dataclass(frozen=True)
class Vocabulary:
    """What graphs are made of: the dtypes of leaves and casts (one that stands there twice twice as often), the ops."""

    dtypes: tuple[DType, ...]
    ops: frozenset[Op]


ELEMENTWISE = frozenset(
    {
        Op.NEG,
        Op.EXP,
        Op.LOG,
        Op.SQRT,
        Op.SIN,
        Op.TRUNC,
        Op.NOT,
        Op.ADD,
        Op.SUB,
        Op.MUL,
        Op.DIV,
        Op.IDIV,
        Op.MOD,
        Op.FMOD,
    }
    | {
        Op.MAX,
        Op.MIN,
        Op.LT,
        Op.EQ,
        Op.NE,
        Op.AND,
        Op.OR,
        Op.XOR,
        Op.SHL,
        Op.SHR,
        Op.WHERE,
        Op.CAST,
        Op.BITCAST,
    }
)
EVERYTHING = Vocabulary(
    (*DTYPES.values(), *4 * (dt.float32,), dt.float64, dt.float16, dt.bfloat16),
    ELEMENTWISE | VIEWS | {Op.PAD, Op.IOTA, Op.GATHER, Op.SCATTER, Op.FOLD, Op.GET, Op.REDUCE, Op.CONST},
)
# With what stands between kernels.
TENSORS = Vocabulary(EVERYTHING.dtypes, EVERYTHING.ops | {Op.CONTIGUOUS, Op.DETACH})
# What a first backend can: 32-bit floats, the usual integers, no data-dependent addresses, nothing in order.
MODEST = Vocabulary(
    (dt.float32, dt.float32, dt.float32, dt.int32, dt.int64, dt.bool_),
    EVERYTHING.ops
    - {Op.PAD, Op.IOTA, Op.GATHER, Op.SCATTER, Op.FOLD, Op.GET, Op.SHRINK, Op.FLIP}
    - {Op.BITCAST, Op.SHL, Op.SHR, Op.TRUNC, Op.FMOD, Op.NE},
)
