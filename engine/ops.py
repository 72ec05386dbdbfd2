"""The operations of the graph, in one enum, and the groups that rules are written over."""

from __future__ import annotations

from enum import StrEnum


class Op(StrEnum):
    """Every operation. The tensor level says what to compute; the kernel level says how."""

    # tensor level: leaves
    BUFFER = "BUFFER"  # arg (id, shape): realized memory of a device
    PARAM = "PARAM"  # arg (slot, shape): a kernel's input, by position; at kernel level also its output
    CONST = "CONST"  # arg: a Python bool, int or float; shape ()
    IOTA = "IOTA"  # arg n: the int64 numbers 0 … n-1; shape (n,)
    # tensor level: views (src 0 is what is viewed)
    RESHAPE = "RESHAPE"  # arg: new shape
    PERMUTE = "PERMUTE"  # arg: axis order
    EXPAND = "EXPAND"  # arg: new shape, of the same length; only size-1 axes grow
    SHRINK = "SHRINK"  # arg (start, stop, step) for each axis: elements start, start + step, … below stop
    FLIP = "FLIP"  # arg: axes whose order is reversed
    # tensor level: the rest
    PAD = "PAD"  # arg (low, high, between) for each axis: zeros before, behind and between the elements
    REDUCE = "REDUCE"  # arg (Op.ADD | Op.MUL | Op.MAX | Op.MIN, axes): the axes disappear
    CONTIGUOUS = "CONTIGUOUS"  # arg one of LEVELS, where to keep it: identity
    DETACH = "DETACH"  # arg None or the number of a leaf: identity, but no gradient goes through it
    SLOPE = (
        "SLOPE"  # src (value, x1, d1, x2, d2, …): the value, whose derivative by each x is declared to be d
    )
    # src (value, count), arg (axis, unit, Var): the value, of whose axis only the first count · unit elements mean anything
    LEADING = "LEADING"
    GATHER = (
        "GATHER"  # src (values, index), arg axis: values at index along axis; 0 where there is no such index
    )
    SCATTER = "SCATTER"  # src (start, index, updates), arg (how, axis): updates in order; see SCATTERS
    FOLD = (
        "FOLD"  # arg (id, n, states): a loop of n steps; src states' inits, xs, then states' bodies; see GET
    )
    GET = "GET"  # src (FOLD,), arg i: state i after the last step
    HOLE = "HOLE"  # arg (fold id, HoleKind, number, shape): what a FOLD's body reads
    ASSIGN = "ASSIGN"  # src (BUFFER, value): the value, which takes the BUFFER's place
    CAST = "CAST"  # to dtype
    BITCAST = "BITCAST"  # the same bits as another dtype of the same size
    # element-wise, at both levels; all sources have one shape
    NEG = "NEG"
    EXP = "EXP"
    LOG = "LOG"
    SQRT = "SQRT"
    SIN = "SIN"
    TRUNC = "TRUNC"  # towards zero, to a whole number
    NOT = "NOT"
    ADD = "ADD"
    SUB = "SUB"
    MUL = "MUL"
    DIV = "DIV"  # float division
    IDIV = "IDIV"  # floors; x // 0 is 0
    MOD = "MOD"  # sign of the divisor; x % 0 is 0
    FMOD = "FMOD"  # of floats, exact whatever the quotient: sign of the dividend; NaN of an infinity and by 0
    MAX = "MAX"  # propagates NaN
    MIN = "MIN"  # propagates NaN
    LT = "LT"
    EQ = "EQ"
    NE = "NE"
    AND = "AND"
    OR = "OR"
    XOR = "XOR"
    SHL = "SHL"  # 0 where the shift is the width or more, or negative
    SHR = "SHR"  # arithmetic for signed integers: then the sign fills in
    WHERE = "WHERE"  # (condition bool, if true, if false)
    MULACC = "MULACC"  # a * b + c with one rounding; made by the lowering, never by users
    # kernel level
    RANGE = "RANGE"  # arg (id, extent, RangeType): a loop variable, int64
    INDEX = "INDEX"  # src (PARAM | ACC | STAGE, flat element offset[, valid]): an address; arg n: of n elements in a row
    LOAD = "LOAD"  # src (INDEX[, value where not valid])
    STORE = "STORE"  # src (INDEX, value); arg "stream": past the caches, where it is a whole vector
    PREFETCH = "PREFETCH"  # src (INDEX,): its line will be needed soon
    ACC = "ACC"  # arg (id, extent): accumulators of a reduce
    STAGE = "STAGE"  # arg (id, extent, byte): so many elements of scratch memory, from that byte on
    END = "END"  # src (effect, RANGE…): closes ranges round an effect
    AFTER = "AFTER"  # src (value, effect…): value, once the effects are done
    SINK = "SINK"  # src effects: the root of a lowered kernel
    VECTOR = "VECTOR"  # src one scalar for each lane
    LANE = "LANE"  # src (vector,), arg q: its lane q, a scalar

    def __repr__(self) -> str:
        return self.value


class HoleKind(StrEnum):
    """What a HOLE in a FOLD's body stands for."""

    STATE = "state"  # state `number`, as the step before left it
    X = "x"  # x `number` at this step: the leading axis is gone
    STEP = "step"  # the number of the step, int64


# Where CONTIGUOUS keeps a value: in memory of its own (a kernel boundary), in a kernel's scratch memory, or nowhere
# but in registers, computed anew for each use.
LEVELS = ("global", "local", "register")
# What SCATTER does with an update and what is there; of duplicates, SET keeps the last.
SCATTERS = ("set", "add", "max")

UNARY = frozenset({Op.NEG, Op.EXP, Op.LOG, Op.SQRT, Op.SIN, Op.TRUNC, Op.NOT})
COMPARE = frozenset({Op.LT, Op.EQ, Op.NE})
BINARY = COMPARE | {
    Op.ADD,
    Op.SUB,
    Op.MUL,
    Op.DIV,
    Op.IDIV,
    Op.MOD,
    Op.FMOD,
    Op.MAX,
    Op.MIN,
    Op.AND,
    Op.OR,
    Op.XOR,
    Op.SHL,
    Op.SHR,
}
TERNARY = frozenset({Op.WHERE, Op.MULACC})
CONVERSIONS = frozenset({Op.CAST, Op.BITCAST})
ELEMENTWISE = UNARY | BINARY | TERNARY | CONVERSIONS
COMMUTATIVE = frozenset({Op.ADD, Op.MUL, Op.MAX, Op.MIN, Op.EQ, Op.NE, Op.AND, Op.OR, Op.XOR})
VIEWS = frozenset({Op.RESHAPE, Op.PERMUTE, Op.EXPAND, Op.SHRINK, Op.FLIP})
REDUCERS = frozenset({Op.ADD, Op.MUL, Op.MAX, Op.MIN})
# What may stand in a kernel's definition (and so in its JSON): nothing here carries code or names.
KERNEL_DEFINITION = (
    ELEMENTWISE - {Op.MULACC}
    | VIEWS
    | {Op.PARAM, Op.CONST, Op.IOTA, Op.REDUCE, Op.PAD, Op.GATHER, Op.SCATTER, Op.FOLD, Op.GET, Op.HOLE}
    | {Op.CONTIGUOUS}
)
