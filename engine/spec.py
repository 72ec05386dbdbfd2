"""What a graph may look like at each level, checked between passes: a broken pass is named where it broke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import prod

from engine import dtype as dt
from engine.element_spec import constant, elementwise, is_numeric, same_dtype
from engine.errors import InvalidGraph, VerifyError
from engine.holes import Numbers, open_holes
from engine.ir import UOp, toposort
from engine.lanes import lanes_of
from engine.ops import (
    ELEMENTWISE,
    LEVELS,
    REDUCERS,
    SCATTERS,
    HoleKind,
    Op,
)
from engine.opts import RangeType
from engine.rewrite import Pattern, pattern
from engine.shapes import shape_of
from engine.sizes import Var
from engine.transcendental import is_expanded


class Level(StrEnum):
    """Which graph: what the user wrote, one kernel's definition, or a kernel with loops and memory.

    A kernel then loses its small floats (WIDE) and its functions (BASIC), and last its vector accesses are settled
    (LANES).
    """

    TENSOR = "tensor"
    DEFINITION = "definition"
    KERNEL = "kernel"
    WIDE = "wide"
    BASIC = "basic"
    LANES = "lanes"


@dataclass(frozen=True, slots=True)
class Check:
    """`test` says what is wrong with a node of `pattern`, or "" when nothing is."""

    pattern: Pattern
    test: Callable[[UOp], str]


def _is_ints(value: object) -> bool:
    return isinstance(value, tuple) and all(type(item) is int for item in value)


def _is_shape(value: object) -> bool:
    return isinstance(value, tuple) and all(type(item) is int and item >= 0 for item in value)


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
    return same_dtype(node, lambda d: d is not dt.void, "a value's")


def _is_pairs(value: object, length: int) -> bool:
    return isinstance(value, tuple) and all(_is_ints(entry) and len(entry) == length for entry in value)


def _triples(node: UOp) -> str:
    if len(node.src) != 1 or not _is_pairs(node.arg, 3):
        return f"needs one source and three ints an axis, has {len(node.src)} and {node.arg!r}"
    return same_dtype(node, lambda d: d is not dt.void, "a value's")


def _iota(node: UOp) -> str:
    if node.src or type(node.arg) is not int or node.arg < 0:
        return f"arg {node.arg!r} must be a length of 0 or more, and there are no sources"
    return "" if node.dtype is dt.int64 else "is int64"


def _index_source(node: UOp) -> str:
    return "" if node.src[1].dtype.is_int else f"indexes with {node.src[1].dtype.name}, not an integer"


def _gather(node: UOp) -> str:
    if len(node.src) != 2 or type(node.arg) is not int:
        return f"needs values, an index and an axis, has {len(node.src)} sources and {node.arg!r}"
    if node.dtype != node.src[0].dtype or node.dtype is dt.void:
        return f"is {node.dtype.name} but gathers {node.src[0].dtype.name}"
    return _index_source(node)


def _scatter(node: UOp) -> str:
    arg = node.arg
    if len(node.src) != 3 or not (isinstance(arg, tuple) and len(arg) == 2 and type(arg[1]) is int):
        return f"needs start, index, updates and (how, axis), has {len(node.src)} sources and {arg!r}"
    if arg[0] not in SCATTERS:
        return f"cannot scatter by {arg[0]!r}; use one of {', '.join(SCATTERS)}"
    if any(s.dtype != node.dtype for s in (node.src[0], node.src[2])):
        return f"is {node.dtype.name} but has sources of {node.src[0].dtype.name}, {node.src[2].dtype.name}"
    computes = arg[0] != "set"
    return "computes in no number" if computes and not is_numeric(node.dtype) else _index_source(node)


def _fold(node: UOp) -> str:
    arg = node.arg
    if not (_is_ints(arg) and len(arg) == 3 and min(arg) >= 0 and arg[2] >= 1):
        return f"arg {arg!r} must be (id, steps, states)"
    states = arg[2]
    if node.dtype is not dt.void or len(node.src) < 2 * states:
        return "is void, of an init and a body for each state"
    pairs = zip(node.src[:states], node.src[-states:], strict=True)
    odd = [f"{i.dtype.name} and {b.dtype.name}" for i, b in pairs if i.dtype != b.dtype]
    return f"a state starts and goes on as {odd[0]}" if odd else ""


def _get(node: UOp) -> str:
    if len(node.src) != 1 or node.src[0].op is not Op.FOLD or type(node.arg) is not int:
        return "takes a FOLD and the number of a state"
    if not 0 <= node.arg < node.src[0].arg[2]:
        return f"there is no state {node.arg} of {node.src[0].arg[2]}"
    wanted = node.src[0].src[node.arg].dtype
    return "" if node.dtype == wanted else f"is {node.dtype.name}, the state is {wanted.name}"


def _hole(node: UOp) -> str:
    arg = node.arg
    if node.src or not (isinstance(arg, tuple) and len(arg) == 4 and isinstance(arg[1], HoleKind)):
        return f"arg {arg!r} must be (fold id, HoleKind, number, shape), and there are no sources"
    if type(arg[0]) is not int or type(arg[2]) is not int or min(arg[0], arg[2]) < 0 or not _is_shape(arg[3]):
        return f"arg {arg!r} has a part of the wrong type"
    return "has no value" if node.dtype is dt.void else ""


def _assign(node: UOp) -> str:
    if len(node.src) != 2 or node.src[0].op is not Op.BUFFER or node.arg is not None:
        return "takes a BUFFER and its new value"
    return same_dtype(node, lambda d: d is not dt.void, "a value's")


def _leading(node: UOp) -> str:
    arg = node.arg
    if len(node.src) != 2 or not (isinstance(arg, tuple) and len(arg) == 3 and isinstance(arg[2], Var)):
        return f"needs a value, a count and (axis, unit, Var), has {len(node.src)} sources and {arg!r}"
    count = node.src[1]
    if count.op is not Op.BUFFER or count.dtype is not dt.int64 or count.arg[1]:
        return "its count is an int64 BUFFER of shape ()"
    return "" if node.dtype == node.src[0].dtype is not dt.void else "is of its value's dtype"


def _vector(node: UOp) -> str:
    if len(node.src) < 2 or node.arg is not None:
        return f"has {len(node.src)} lanes and arg {node.arg!r}"
    return same_dtype(node, lambda d: d is not dt.void, "a value's")


def _reduce(node: UOp) -> str:
    arg = node.arg
    if len(node.src) != 1 or not (isinstance(arg, tuple) and len(arg) == 2 and _is_ints(arg[1])):
        return f"needs one source and (op, axes), has {len(node.src)} and {arg!r}"
    if arg[0] not in REDUCERS:
        return f"cannot reduce with {arg[0]!r}; use one of {', '.join(sorted(REDUCERS))}"
    return same_dtype(node, is_numeric, "a number")


def _contiguous(node: UOp) -> str:
    if len(node.src) != 1 or node.arg not in LEVELS:
        return f"needs one source and one of {', '.join(LEVELS)}, has {len(node.src)} and {node.arg!r}"
    return same_dtype(node, lambda d: d is not dt.void, "a value's")


def _staged(node: UOp) -> str:
    return "is a boundary between kernels" if node.arg == "global" else _contiguous(node)


def _detach(node: UOp) -> str:
    if len(node.src) != 1 or not (node.arg is None or (type(node.arg) is int and node.arg >= 0)):
        return f"needs one source and None or a leaf's number, has {len(node.src)} and {node.arg!r}"
    return same_dtype(node, lambda d: d is not dt.void, "a value's")


def _slope(node: UOp) -> str:
    if len(node.src) % 2 == 0 or node.arg is not None:
        return (
            f"needs a value and pairs of an x and a derivative, has {len(node.src)} sources and {node.arg!r}"
        )
    return same_dtype(node, lambda d: d.is_float, "a float")


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


def _stage(node: UOp) -> str:
    arg = node.arg
    if node.src or not (_is_ints(arg) and len(arg) == 3 and min(arg) >= 0 and arg[1] >= 1):
        return f"arg {arg!r} must be (id, extent of 1 or more, byte), and there are no sources"
    return "" if node.dtype is not dt.void and arg[2] % 64 == 0 else "is a value's, from a multiple of 64 on"


MEMORIES = (Op.PARAM, Op.ACC, Op.STAGE)


def _behind_after(node: UOp) -> UOp:
    while node.op is Op.AFTER and node.src:
        node = node.src[0]
    return node


def _index(node: UOp) -> str:
    return "is of one element" if node.arg is not None else _address(node)


def _address(node: UOp) -> str:
    if len(node.src) not in (2, 3):
        return f"has {len(node.src)} sources, not a memory, an offset and perhaps where it is valid"
    memory = _behind_after(node.src[0])
    if memory.op not in MEMORIES:
        return f"indexes {memory.op.value}, not {', '.join(MEMORIES)}"
    if node.dtype != memory.dtype or node.src[1].dtype is not dt.int64:
        return "takes its memory's dtype and an int64 offset"
    return "" if len(node.src) == 2 or node.src[2].dtype is dt.bool_ else "validity is not a bool"


def _row(node: UOp) -> str:
    """An INDEX whose lanes are settled: of one element, or of as many in a row as it says."""
    if node.arg is not None and (type(node.arg) is not int or node.arg < 2):
        return f"arg {node.arg!r} must be a number of elements, 2 or more"
    if lanes_of(node.src[1]) > 1:
        return "its offset differs between lanes"
    if any(lanes_of(valid) != (node.arg or 1) for valid in node.src[2:]):
        return f"its validity has not the {node.arg or 1} lanes of its elements"
    return _address(node)


def _lane(node: UOp) -> str:
    if len(node.src) != 1 or type(node.arg) is not int or not 0 <= node.arg < lanes_of(node.src[0]):
        return f"there is no lane {node.arg!r}"
    return same_dtype(node, lambda d: d is not dt.void, "a value's")


def _wide(check: Callable[[UOp], str]) -> Callable[[UOp], str]:
    """The check of a node that may no longer be a small float."""

    def test(node: UOp) -> str:
        return f"is {node.dtype.name} where it must be float32" if node.dtype.is_small else check(node)

    return test


def _basic(check: Callable[[UOp], str]) -> Callable[[UOp], str]:
    """The check of a node that may no longer be a function made of basic ops."""

    def test(node: UOp) -> str:
        return f"of {node.dtype.name} where it must be basic ops" if is_expanded(node) else check(node)

    return test


def _settled(check: Callable[[UOp], str]) -> Callable[[UOp], str]:
    """The check of a node whose sources have as many lanes as it, or one."""

    def test(node: UOp) -> str:
        sources = node.src[:1] if node.op is Op.AFTER else node.src
        counts = {lanes_of(source) for source in sources} - {1}
        if len(counts) > 1 or (node.op is Op.STORE and max(counts, default=1) > lanes_of(node.src[0])):
            return f"has sources of {', '.join(map(str, sorted(counts)))} lanes"
        return check(node)

    return test


def _load(node: UOp) -> str:
    if len(node.src) not in (1, 2) or _behind_after(node.src[0]).op is not Op.INDEX:
        return "needs an INDEX and, where it can be invalid, a value to give there"
    guarded = len(_behind_after(node.src[0]).src) == 3
    if guarded != (len(node.src) == 2):
        return "has a value for where it is invalid exactly when its INDEX can be"
    return same_dtype(node, lambda d: d is not dt.void, "a value's")


def _store(node: UOp) -> str:
    if len(node.src) != 2 or _behind_after(node.src[0]).op is not Op.INDEX or node.dtype is not dt.void:
        return "is void, of an INDEX and a value"
    index, value = node.src
    if node.arg not in (None, "stream"):
        return f"arg {node.arg!r} must be None or 'stream'"
    return "" if index.dtype == value.dtype else f"stores {value.dtype.name} into {index.dtype.name} memory"


EFFECTS = frozenset({Op.STORE, Op.PREFETCH, Op.END, Op.AFTER})


def _is_effect(node: UOp) -> bool:
    return node.dtype is dt.void and node.op in EFFECTS | {Op.SINK}


def _prefetch(node: UOp) -> str:
    if len(node.src) != 1 or node.src[0].op is not Op.INDEX or len(node.src[0].src) != 2:
        return "needs an INDEX that can not be invalid"
    return "" if node.dtype is dt.void else "is void"


def _end(node: UOp) -> str:
    if node.dtype is not dt.void or not node.src or not _is_effect(node.src[0]):
        return "is void, of an effect and the ranges it closes"
    odd = [s.op.value for s in node.src[1:] if s.op is not Op.RANGE]
    return f"closes {odd[0]}, not a RANGE" if odd else ""


def _after(node: UOp) -> str:
    if not node.src or node.dtype != node.src[0].dtype:
        return "has its first source's dtype"
    # Memory may wait for values: what is read from it must be read before it changes.
    if _behind_after(node).op in MEMORIES:
        return ""
    odd = [s.op.value for s in node.src[1:] if not _is_effect(s) and s.op is not Op.RANGE]
    return f"waits for {odd[0]}, which is no effect" if odd else ""


def _sink(node: UOp) -> str:
    odd = [s.op.value for s in node.src if not _is_effect(s)]
    return f"of {odd[0]}, which is no effect" if odd else ""


def _checks(*pairs: tuple[frozenset[Op] | set[Op], Callable[[UOp], str]]) -> tuple[Check, ...]:
    return tuple(Check(pattern(*ops), test) for ops, test in pairs)


_VALUES = _checks((ELEMENTWISE - {Op.MULACC}, elementwise), ({Op.CONST}, constant))
_SHAPED = _VALUES + _checks(
    ({Op.RESHAPE, Op.PERMUTE, Op.EXPAND, Op.FLIP}, _view),
    ({Op.SHRINK, Op.PAD}, _triples),
    ({Op.IOTA}, _iota),
    ({Op.REDUCE}, _reduce),
    ({Op.GATHER}, _gather),
    ({Op.SCATTER}, _scatter),
    ({Op.FOLD}, _fold),
    ({Op.GET}, _get),
    ({Op.HOLE}, _hole),
)
_KERNEL = _VALUES + _checks(
    ({Op.MULACC}, elementwise),
    ({Op.PARAM}, _memory),
    ({Op.RANGE}, _range),
    ({Op.ACC}, _acc),
    ({Op.STAGE}, _stage),
    ({Op.INDEX}, _index),
    ({Op.LOAD}, _load),
    ({Op.STORE}, _store),
    ({Op.PREFETCH}, _prefetch),
    ({Op.END}, _end),
    ({Op.AFTER}, _after),
    ({Op.SINK}, _sink),
    ({Op.VECTOR}, _vector),
)
_WIDE = tuple(Check(check.pattern, _wide(check.test)) for check in _KERNEL)
_BASIC = tuple(Check(check.pattern, _basic(check.test)) for check in _WIDE)
_LANES = tuple(Check(check.pattern, _settled(check.test)) for check in _BASIC)
SPECS: dict[Level, tuple[Check, ...]] = {
    Level.TENSOR: _SHAPED
    + _checks(
        ({Op.BUFFER, Op.PARAM}, _memory),
        ({Op.CONTIGUOUS}, _contiguous),
        ({Op.DETACH}, _detach),
        ({Op.SLOPE}, _slope),
        ({Op.ASSIGN}, _assign),
        ({Op.LEADING}, _leading),
    ),
    Level.DEFINITION: _SHAPED + _checks(({Op.PARAM}, _memory), ({Op.CONTIGUOUS}, _staged)),
    Level.KERNEL: _KERNEL,
    Level.WIDE: _WIDE,
    Level.BASIC: _BASIC,
    Level.LANES: _checks(({Op.INDEX}, _wide(_row)), ({Op.LANE}, _wide(_lane))) + _LANES,
}
# The first check of an op counts. Checks are by op alone, so no pattern needs to be matched.
_TESTS = {
    level: {op: check.test for check in reversed(checks) for op in check.pattern.ops or ()}
    for level, checks in SPECS.items()
}

# Nodes never change, so what has been verified once stays so: each level's bit among a node's `levels`.
_BITS = {level: 1 << number for number, level in enumerate(Level)}


def problem(node: UOp, level: Level) -> str:
    """What is wrong with one node by itself at `level`; "" when nothing is. Shapes are not looked at."""
    test = _TESTS[level].get(node.op)
    return test(node) if test is not None else f"does not belong in a {level.value}-level graph"


def shape_problem(node: UOp) -> str:
    """What is wrong with a node's shape at the two upper levels; "" when nothing is."""
    try:
        shape = shape_of(node)
    except InvalidGraph as error:
        return str(error)
    if node.op is Op.FOLD:
        return _fold_shapes(node)
    if node.op is not Op.REDUCE or node.arg[0] not in (Op.MAX, Op.MIN):
        return ""
    empty = prod(shape) > 0 and prod(shape_of(node.src[0])) == 0
    return f"{node.arg[0].value} of no elements has no value" if empty else ""


def _fold_shapes(node: UOp) -> str:
    """Bodies keep the states' shapes, xs have the steps in front, holes are as what they stand for."""
    id_, steps, states = node.arg
    inits, xs = node.src[:states], node.src[states:-states]
    bodies = node.src[-states:]
    for init, body in zip(inits, bodies, strict=True):
        if shape_of(init) != shape_of(body):
            return f"a state starts as {shape_of(init)} and goes on as {shape_of(body)}"
    for x in xs:
        if shape_of(x)[:1] != (steps,):
            return f"an x of shape {shape_of(x)} has not {steps} steps"
    wanted = {(HoleKind.STATE, i): (s.dtype, shape_of(s)) for i, s in enumerate(inits)}
    wanted |= {(HoleKind.X, i): (x.dtype, shape_of(x)[1:]) for i, x in enumerate(xs)}
    wanted[HoleKind.STEP, 0] = (dt.int64, ())
    for below in toposort(*bodies):
        if below.op in (Op.BUFFER, Op.PARAM, Op.ASSIGN):
            return f"a body is closed, but reads a {below.op.value}"
        own = below.op is Op.HOLE and below.arg[0] == id_
        if own and wanted.get((below.arg[1], below.arg[2])) != (below.dtype, tuple(below.arg[3])):
            return f"its {below.arg[1].value} {below.arg[2]} is not as the HOLE says"
    return ""


def verify(root: UOp, level: Level, stage: str) -> None:
    """Check the whole graph under `root`. VerifyError names `stage` (the pass that made it), the op and why."""
    known = _BITS[level]
    holes: dict[UOp, Numbers] = {}
    for node in toposort(root, enter=lambda n: not n.levels & known):
        if node.levels & known:
            continue
        found = problem(node, level)
        if not found and level in (Level.TENSOR, Level.DEFINITION):
            found = shape_problem(node)
        if found:
            raise VerifyError(stage, node.op.value, found)
        if (holes or node.op is Op.HOLE) and (outside := open_holes(node, holes)):
            holes[node] = outside  # right only inside a FOLD, so it is not known to be right
        else:
            node.note("levels", node.levels | known)
    if root in holes:
        raise VerifyError(stage, Op.HOLE.value, "stands outside the body of its FOLD")
