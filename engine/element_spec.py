"""The spec's rules for constants and element-wise ops: how many sources, and which dtypes go together."""

from __future__ import annotations

from collections.abc import Callable

from engine import dtype as dt
from engine.dtype import DType
from engine.ir import UOp
from engine.ops import COMPARE, CONVERSIONS, TERNARY, UNARY, Op

NUMERIC = frozenset({Op.NEG, Op.ADD, Op.SUB, Op.MUL, Op.MAX, Op.MIN})
FLOAT_ONLY = frozenset({Op.EXP, Op.LOG, Op.SQRT, Op.SIN, Op.TRUNC, Op.DIV, Op.FMOD})
INT_ONLY = frozenset({Op.IDIV, Op.MOD, Op.SHL, Op.SHR})
BITS = frozenset({Op.NOT, Op.AND, Op.OR, Op.XOR})


def is_numeric(dtype: DType) -> bool:
    """A number that can be computed in?"""
    return dtype.is_int or (dtype.is_float and not dtype.is_storage)


def same_dtype(node: UOp, allowed: Callable[[DType], bool], wanted: str) -> str:
    """What is wrong where a node and its sources must be of one `allowed` dtype; "" when nothing is."""
    if not allowed(node.dtype):
        return f"dtype {node.dtype.name} is not {wanted}"
    odd = [s.dtype.name for s in node.src if s.dtype != node.dtype]
    return f"is {node.dtype.name} but has a source of {odd[0]}" if odd else ""


def elementwise(node: UOp) -> str:
    """What is wrong with an element-wise node; "" when nothing is."""
    count = 1 if node.op in UNARY or node.op in CONVERSIONS else 3 if node.op in TERNARY else 2
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
    if node.op is Op.BITCAST:
        return _bitcast(node)
    if node.op in FLOAT_ONLY:
        return same_dtype(node, lambda d: d.is_float and not d.is_storage, "a float to compute in")
    if node.op in INT_ONLY:
        return same_dtype(node, lambda d: d.is_int, "an integer")
    if node.op in BITS:
        return same_dtype(node, lambda d: d.is_int or d is dt.bool_, "bool or an integer")
    return same_dtype(node, is_numeric, "a number")


def _bitcast(node: UOp) -> str:
    source = node.src[0].dtype
    if dt.bool_ in (node.dtype, source) or node.dtype is dt.void:
        return "is between numbers: a bool has one bit"
    same = node.dtype.itemsize == source.itemsize
    return "" if same else f"from {source.name} to {node.dtype.name}: the sizes differ"


def _compare(node: UOp) -> str:
    a, b = node.src
    if a.dtype.is_storage:
        return f"compares {a.dtype.name}, which is for storage: cast first"
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


def constant(node: UOp) -> str:
    """What is wrong with a CONST; "" when nothing is."""
    if node.dtype is dt.void:
        return "has no value"
    wanted = bool if node.dtype is dt.bool_ else int if node.dtype.is_int else float
    if node.src or type(node.arg) is not wanted:
        return f"arg {node.arg!r} must be a Python {wanted.__name__} for {node.dtype.name}"
    if node.dtype.is_int:
        return (
            ""
            if node.dtype.low <= node.arg <= node.dtype.high
            else f"{node.arg} does not fit {node.dtype.name}"
        )
    return ""
