"""The operations of the graph, in one enum, and the groups that rules are written over."""

from __future__ import annotations

from enum import StrEnum


class Op(StrEnum):
    """Every operation. The tensor level says what to compute; the kernel level says how."""

    # tensor level: leaves
    BUFFER = "BUFFER"  # arg (id, shape): realized memory of a device
    PARAM = "PARAM"  # arg (slot, shape): a kernel's input, by position; at kernel level also its output
    CONST = "CONST"  # arg: a Python bool, int or float; shape ()
    # tensor level: views (src 0 is what is viewed)
    RESHAPE = "RESHAPE"  # arg: new shape
    PERMUTE = "PERMUTE"  # arg: axis order
    EXPAND = "EXPAND"  # arg: new shape, of the same length; only size-1 axes grow
    # tensor level: the rest
    REDUCE = "REDUCE"  # arg (Op.ADD | Op.MUL | Op.MAX | Op.MIN, axes): the axes disappear
    CONTIGUOUS = "CONTIGUOUS"  # arg "global": identity; a kernel boundary
    CAST = "CAST"  # to dtype
    # element-wise, at both levels; all sources have one shape
    NEG = "NEG"
    EXP = "EXP"
    LOG = "LOG"
    SQRT = "SQRT"
    SIN = "SIN"
    NOT = "NOT"
    ADD = "ADD"
    SUB = "SUB"
    MUL = "MUL"
    DIV = "DIV"  # float division
    IDIV = "IDIV"  # floors; x // 0 is 0
    MOD = "MOD"  # sign of the divisor; x % 0 is 0
    MAX = "MAX"  # propagates NaN
    MIN = "MIN"  # propagates NaN
    LT = "LT"
    EQ = "EQ"
    NE = "NE"
    AND = "AND"
    OR = "OR"
    XOR = "XOR"
    WHERE = "WHERE"  # (condition bool, if true, if false)
    MULACC = "MULACC"  # a * b + c with one rounding; made by the lowering, never by users
    # kernel level
    RANGE = "RANGE"  # arg (id, extent, RangeType): a loop variable, int64
    INDEX = "INDEX"  # src (PARAM | ACC, flat element offset[, valid]): an address
    LOAD = "LOAD"  # src (INDEX[, value where not valid])
    STORE = "STORE"  # src (INDEX, value)
    ACC = "ACC"  # arg (id, extent): accumulators of a reduce
    END = "END"  # src (effect, RANGE…): closes ranges round an effect
    AFTER = "AFTER"  # src (value, effect…): value, once the effects are done
    SINK = "SINK"  # src effects: the root of a lowered kernel

    def __repr__(self) -> str:
        return self.value


UNARY = frozenset({Op.NEG, Op.EXP, Op.LOG, Op.SQRT, Op.SIN, Op.NOT})
COMPARE = frozenset({Op.LT, Op.EQ, Op.NE})
BINARY = COMPARE | {
    Op.ADD,
    Op.SUB,
    Op.MUL,
    Op.DIV,
    Op.IDIV,
    Op.MOD,
    Op.MAX,
    Op.MIN,
    Op.AND,
    Op.OR,
    Op.XOR,
}
TERNARY = frozenset({Op.WHERE, Op.MULACC})
ELEMENTWISE = UNARY | BINARY | TERNARY | {Op.CAST}
COMMUTATIVE = frozenset({Op.ADD, Op.MUL, Op.MAX, Op.MIN, Op.EQ, Op.NE, Op.AND, Op.OR, Op.XOR})
VIEWS = frozenset({Op.RESHAPE, Op.PERMUTE, Op.EXPAND})
REDUCERS = frozenset({Op.ADD, Op.MUL, Op.MAX, Op.MIN})
# What may stand in a kernel's definition (and so in its JSON): nothing here carries code or names.
KERNEL_DEFINITION = ELEMENTWISE - {Op.MULACC} | VIEWS | {Op.PARAM, Op.CONST, Op.REDUCE}
