"""What a graph may look like at each level, checked between passes: a broken pass is named where it broke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from weakref import WeakSet

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph, VerifyError
from engine.ir import UOp, toposort
from engine.ops import COMPARE, ELEMENTWISE, REDUCERS, TERNARY, UNARY, Op
from engine.opts import RangeType
from engine.rewrite import Pattern, pattern
from engine.shapes import shape_of


class Level(StrEnum):
    """Which graph: what the user wrote, one kernel's definition, or a kernel with loops and memory."""

    TENSOR = "tensor"
    DEFINITION = "definition"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class Check:
    """`test` says what is wrong with a node of `pattern`, or "" when nothing is."""

    pattern: Pattern
    test: Callable[[UOp], str]


NUMERIC = frozenset({Op.NEG, Op.ADD, Op.SUB, Op.MUL, Op.MAX, Op.MIN})
FLOAT_ONLY = frozenset({Op.EXP, Op.LOG, Op.SQRT, Op.SIN, Op.DIV})
INT_ONLY = frozenset({Op.IDIV, Op.MOD})
BITS = frozenset({Op.NOT, Op.AND, Op.OR, Op.XOR})
INT_LIMITS = {dt.int32: (-(1 << 31), (1 << 31) - 1), dt.int64: (-(1 << 63), (1 << 63) - 1)}


def _is_numeric(dtype: DType) -> bool:
    return dtype.is_int or dtype.is_float


def _same_dtype(node: UOp, allowed: Callable[[DType], bool], wanted: str) -> str:
    if not allowed(node.dtype):
        return f"dtype {node.dtype.name} is not {wanted}"
    odd = [s.dtype.name for s in node.src if s.dtype != node.dtype]
    return f"is {node.dtype.name} but has a source of {odd[0]}" if odd else ""


def _elementwise(node: UOp) -> str:
    count = 1 if node.op in UNARY or node.op is Op.CAST else 3 if node.op in TERNARY else 2
    if len(node.src) != count:
        return f"has {len(node.src)} sources, not {count}"
    if node.arg is not None:
        return f"takes no arg, has {node.arg!r}"
    if any(source.dtype is dt.void for source in node.src):
        return "a source has no value"
    return _elementwise_dtype(node)


def _elementwise_dtype(node: UOp) -> str:
    if node.op in COMPARE:
        return _compare(node)
    if node.op is Op.WHERE:
        return _where(node)
    if node.op is Op.CAST:
        return "casts to void" if node.dtype is dt.void else ""
    if node.op in FLOAT_ONLY:
        return _same_dtype(node, lambda d: d.is_float, "a float")
    if node.op in INT_ONLY:
        return _same_dtype(node, lambda d: d.is_int, "an integer")
    if node.op in BITS:
        return _same_dtype(node, lambda d: d.is_int or d is dt.bool_, "bool or an integer")
    return _same_dtype(node, _is_numeric, "a number")


def _compare(node: UOp) -> str:
    a, b = node.src
    if node.dtype is not dt.bool_:
        return f"gives bool, not {node.dtype.name}"
    if a.dtype != b.dtype:
        return f"compares {a.dtype.name} with {b.dtype.name}"
    return "bool has no order" if node.op is Op.LT and a.dtype is dt.bool_ else ""


def _where(node: UOp) -> str:
    condition, *values = node.src
    if condition.dtype is not dt.bool_:
        return f"condition is {condition.dtype.name}, not bool"
    odd = [v.dtype.name for v in values if v.dtype != node.dtype]
    return f"is {node.dtype.name} but chooses {odd[0]}" if odd else ""


def _const(node: UOp) -> str:
    wanted = bool if node.dtype is dt.bool_ else int if node.dtype.is_int else float
    if node.src or type(node.arg) is not wanted:
        return f"arg {node.arg!r} must be a Python {wanted.__name__} for {node.dtype.name}"
    if node.dtype.is_int:
        low, high = INT_LIMITS[node.dtype]
        return "" if low <= node.arg <= high else f"{node.arg} does not fit {node.dtype.name}"
    return ""


def _is_ints(value: object) -> bool:
    return isinstance(value, tuple) and all(type(item) is int for item in value)


def _memory(node: UOp) -> str:
    arg = node.arg
    if node.src or not (
        isinstance(arg, tuple) and len(arg) == 2 and type(arg[0]) is int and _is_ints(arg[1])
    ):
        return f"arg {arg!r} must be (number, shape), and there are no sources"
    if arg[0] < 0 or any(n < 0 for n in arg[1]):
        return f"arg {arg!r} has a negative number"
    return "has no value" if node.dtype is dt.void else ""


def _view(node: UOp) -> str:
    if len(node.src) != 1 or not _is_ints(node.arg):
        return f"needs one source and a tuple of ints, has {len(node.src)} and {node.arg!r}"
    return _same_dtype(node, lambda d: d is not dt.void, "a value's")


def _reduce(node: UOp) -> str:
    arg = node.arg
    if len(node.src) != 1 or not (isinstance(arg, tuple) and len(arg) == 2 and _is_ints(arg[1])):
        return f"needs one source and (op, axes), has {len(node.src)} and {arg!r}"
    if arg[0] not in REDUCERS:
        return f"cannot reduce with {arg[0]!r}; use one of {', '.join(sorted(REDUCERS))}"
    return _same_dtype(node, _is_numeric, "a number")


def _contiguous(node: UOp) -> str:
    if len(node.src) != 1 or node.arg != "global":
        return f"needs one source and 'global', has {len(node.src)} and {node.arg!r}"
    return _same_dtype(node, lambda d: d is not dt.void, "a value's")


def _range(node: UOp) -> str:
    arg = node.arg
    if node.dtype is not dt.int64 or len(node.src) > 1 or any(s.dtype is not dt.int64 for s in node.src):
        return "is int64, of nothing or of its int64 number of trips"
    if not (isinstance(arg, tuple) and len(arg) == 3 and isinstance(arg[2], RangeType)):
        return f"arg {arg!r} must be (id, extent, RangeType)"
    return "" if type(arg[1]) is int and arg[1] >= 0 else f"extent {arg[1]!r} must be an int of 0 or more"


def _acc(node: UOp) -> str:
    arg = node.arg
    if node.src or not (isinstance(arg, tuple) and len(arg) == 2 and type(arg[1]) is int and arg[1] >= 1):
        return f"arg {arg!r} must be (id, extent of 1 or more), and there are no sources"
    return "" if node.dtype is not dt.void else "has no value"


def _behind_after(node: UOp) -> UOp:
    while node.op is Op.AFTER and node.src:
        node = node.src[0]
    return node


def _index(node: UOp) -> str:
    if len(node.src) not in (2, 3):
        return f"has {len(node.src)} sources, not a memory, an offset and perhaps where it is valid"
    memory = _behind_after(node.src[0])
    if memory.op not in (Op.PARAM, Op.ACC):
        return f"indexes {memory.op.value}, not PARAM or ACC"
    if node.dtype != memory.dtype or node.src[1].dtype is not dt.int64:
        return "takes its memory's dtype and an int64 offset"
    return "" if len(node.src) == 2 or node.src[2].dtype is dt.bool_ else "validity is not a bool"


def _load(node: UOp) -> str:
    if len(node.src) not in (1, 2) or _behind_after(node.src[0]).op is not Op.INDEX:
        return "needs an INDEX and, where it can be invalid, a value to give there"
    guarded = len(_behind_after(node.src[0]).src) == 3
    if guarded != (len(node.src) == 2):
        return "has a value for where it is invalid exactly when its INDEX can be"
    return _same_dtype(node, lambda d: d is not dt.void, "a value's")


def _store(node: UOp) -> str:
    if len(node.src) != 2 or _behind_after(node.src[0]).op is not Op.INDEX or node.dtype is not dt.void:
        return "is void, of an INDEX and a value"
    index, value = node.src
    return "" if index.dtype == value.dtype else f"stores {value.dtype.name} into {index.dtype.name} memory"


EFFECTS = frozenset({Op.STORE, Op.END, Op.AFTER})


def _is_effect(node: UOp) -> bool:
    return node.dtype is dt.void and node.op in EFFECTS | {Op.SINK}


def _end(node: UOp) -> str:
    if node.dtype is not dt.void or not node.src or not _is_effect(node.src[0]):
        return "is void, of an effect and the ranges it closes"
    odd = [s.op.value for s in node.src[1:] if s.op is not Op.RANGE]
    return f"closes {odd[0]}, not a RANGE" if odd else ""


def _after(node: UOp) -> str:
    if not node.src or node.dtype != node.src[0].dtype:
        return "has its first source's dtype"
    odd = [s.op.value for s in node.src[1:] if not _is_effect(s) and s.op is not Op.RANGE]
    return f"waits for {odd[0]}, which is no effect" if odd else ""


def _sink(node: UOp) -> str:
    odd = [s.op.value for s in node.src if not _is_effect(s)]
    return f"of {odd[0]}, which is no effect" if odd else ""


def _checks(*pairs: tuple[frozenset[Op] | set[Op], Callable[[UOp], str]]) -> tuple[Check, ...]:
    return tuple(Check(pattern(*ops), test) for ops, test in pairs)


_VALUES = _checks((ELEMENTWISE - {Op.MULACC}, _elementwise), ({Op.CONST}, _const))
_SHAPED = _VALUES + _checks(({Op.RESHAPE, Op.PERMUTE, Op.EXPAND}, _view), ({Op.REDUCE}, _reduce))
SPECS: dict[Level, tuple[Check, ...]] = {
    Level.TENSOR: _SHAPED + _checks(({Op.BUFFER, Op.PARAM}, _memory), ({Op.CONTIGUOUS}, _contiguous)),
    Level.DEFINITION: _SHAPED + _checks(({Op.PARAM}, _memory)),
    Level.KERNEL: _VALUES
    + _checks(
        ({Op.MULACC}, _elementwise),
        ({Op.PARAM}, _memory),
        ({Op.RANGE}, _range),
        ({Op.ACC}, _acc),
        ({Op.INDEX}, _index),
        ({Op.LOAD}, _load),
        ({Op.STORE}, _store),
        ({Op.END}, _end),
        ({Op.AFTER}, _after),
        ({Op.SINK}, _sink),
    ),
}
_BY_OP = {
    level: {op: [c for c in checks if op in c.pattern.ops] for op in Op} for level, checks in SPECS.items()
}

# Nodes never change, so what has been verified once stays so.
_verified: dict[Level, WeakSet[UOp]] = {level: WeakSet() for level in Level}


def problem(node: UOp, level: Level) -> str:
    """What is wrong with one node by itself at `level`; "" when nothing is. Shapes are not looked at."""
    for check in _BY_OP[level][node.op]:
        if check.pattern.match(node, {}):
            return check.test(node)
    return f"does not belong in a {level.value}-level graph"


def shape_problem(node: UOp) -> str:
    """What is wrong with a node's shape at the two upper levels; "" when nothing is."""
    try:
        shape = shape_of(node)
    except InvalidGraph as error:
        return str(error)
    if node.op is not Op.REDUCE or node.arg[0] not in (Op.MAX, Op.MIN):
        return ""
    empty = prod(shape) > 0 and prod(shape_of(node.src[0])) == 0
    return f"{node.arg[0].value} of no elements has no value" if empty else ""


def verify(root: UOp, level: Level, stage: str) -> None:
    """Check the whole graph under `root`. VerifyError names `stage` (the pass that made it), the op and why."""
    known = _verified[level]
    for node in toposort(root, enter=lambda n: n not in known):
        if node in known:
            continue
        found = problem(node, level)
        if not found and level is not Level.KERNEL:
            found = shape_problem(node)
        if found:
            raise VerifyError(stage, node.op.value, found)
        known.add(node)
