"""A kernel as canonical JSON and back. The text, and so the hash, is the same in every process and machine.

    {"version": 1, "nodes": [[op, dtype, [source numbers], arg], …]}

Nodes stand sources first and the last is the output. `arg`: PARAM [slot, shape]; CONST true, 3 or
{"f": "0x1.8p+1"} (also "nan", "inf", "-inf"); views a list of ints (SHRINK and PAD: of three for each axis);
REDUCE [op, axes]; IOTA its length; GATHER the axis; SCATTER [how, axis]; FOLD [number, steps, states]; GET the
state; HOLE [number of its FOLD, kind, number, shape]; else null. FOLDs are numbered 0, 1, … as they stand.
Documents come from strangers: everything is checked before a node is built, and nothing in one is ever executed.
"""

from __future__ import annotations

import hashlib
import json
from math import isinf, isnan, prod
from typing import Any

from engine import dtype as dt
from engine.dtype import DTYPES, DType
from engine.errors import InvalidGraph
from engine.holes import Numbers, open_holes
from engine.indexing import body
from engine.ir import Arg, UOp, toposort
from engine.kernel import Kernel
from engine.ops import KERNEL_DEFINITION, LEVELS, REDUCERS, SCATTERS, VIEWS, HoleKind, Op
from engine.rounding import rounded
from engine.shapes import shape_of
from engine.spec import Level, problem, shape_problem

VERSION = 1
MAX_NODES = 10_000
MAX_AXES = 16
MAX_ELEMENTS = 1 << 28  # of one buffer
MAX_POINTS = 1 << 44  # of any node: beyond, an evaluation would not end
MAX_REDUCES = 32
MAX_SLOTS = 1024
MAX_SOURCES = 512  # of a FOLD; everything else has up to 3
_DTYPES = DTYPES | {dt.void.name: dt.void}  # a FOLD is void


def kernel_to_json(kernel: Kernel) -> dict[str, Any]:
    """The kernel's document. InvalidGraph if it is not one that `kernel_from_json` would accept."""
    order = toposort(kernel.output)
    numbers = {node: number for number, node in enumerate(order)}
    _check_graph(order)
    folds = {node.arg[0]: number for number, node in enumerate(n for n in order if n.op is Op.FOLD)}
    nodes = [[n.op.value, n.dtype.name, [numbers[s] for s in n.src], _arg_to_json(n, folds)] for n in order]
    return {"version": VERSION, "nodes": nodes}


def kernel_text(kernel: Kernel) -> str:
    """The canonical JSON text of the kernel."""
    return json.dumps(kernel_to_json(kernel), sort_keys=True, separators=(",", ":"), allow_nan=False)


def kernel_hash(kernel: Kernel) -> str:
    """Hex SHA3-256 of the canonical text."""
    return hashlib.sha3_256(kernel_text(kernel).encode()).hexdigest()


def kernel_from_json(document: object) -> Kernel:
    """Read a kernel's document. InvalidGraph names the node (`nodes[3].arg`) and what is wrong with it."""
    entries = _entries(document)
    nodes: list[UOp] = []
    for number, entry in enumerate(entries):
        nodes.append(_node(entry, nodes, f"nodes[{number}]"))
    order = toposort(nodes[-1])
    if len(order) != len(nodes):
        raise InvalidGraph(f"{len(nodes)} nodes, of which {len(order)} are different and used", "nodes")
    _check_graph(order)
    return Kernel(nodes[-1])


def _entries(document: object) -> list[object]:
    if not isinstance(document, dict) or set(document) != {"version", "nodes"}:
        raise InvalidGraph('must be an object with exactly "version" and "nodes"', "kernel")
    if type(document["version"]) is not int or document["version"] != VERSION:
        raise InvalidGraph(f"is {document['version']!r}; this engine reads version {VERSION}", "version")
    nodes = document["nodes"]
    if not isinstance(nodes, list) or not 1 <= len(nodes) <= MAX_NODES:
        raise InvalidGraph(f"must be a list of 1 to {MAX_NODES} nodes", "nodes")
    return nodes


def _node(entry: object, before: list[UOp], field: str) -> UOp:
    if not isinstance(entry, list) or len(entry) != 4:
        raise InvalidGraph("must be [op, dtype, sources, arg]", field)
    op, dtype = _op(entry[0], field), _dtype(entry[1], field)
    src = _sources(entry[2], MAX_SOURCES if op is Op.FOLD else 3, before, f"{field}.src")
    node = UOp(op, dtype, src, _arg_from_json(op, dtype, entry[3], f"{field}.arg"))
    _check_node(node, field)
    return node


def _op(name: object, field: str) -> Op:
    if not isinstance(name, str) or name not in Op.__members__ or Op[name] not in KERNEL_DEFINITION:
        raise InvalidGraph(f"op {name!r} may not stand in a kernel's definition", field)
    return Op[name]


def _dtype(name: object, field: str) -> DType:
    if not isinstance(name, str) or name not in _DTYPES:
        raise InvalidGraph(f"dtype {name!r} is not one of {', '.join(DTYPES)}", field)
    return _DTYPES[name]


def _sources(value: object, most: int, before: list[UOp], field: str) -> tuple[UOp, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise InvalidGraph(f"must be a list of at most {most} node numbers", field)
    for number in value:
        if type(number) is not int or not 0 <= number < len(before):
            raise InvalidGraph(f"{number!r} is not the number of an earlier node", field)
    return tuple(before[number] for number in value)


# ------------------------------------------------------------------------------------------------ args


def _arg_to_json(node: UOp, folds: dict[int, int]) -> Any:
    arg = node.arg
    match node.op:
        case Op.CONST:
            return _number_to_json(arg, node.dtype)
        case Op.PARAM:
            return [arg[0], list(arg[1])]
        case Op.REDUCE:
            return [arg[0].value, list(arg[1])]
        case Op.SHRINK | Op.PAD:
            return [list(entry) for entry in arg]
        case Op.FOLD:
            return [folds[arg[0]], arg[1], arg[2]]
        case Op.HOLE:
            return [folds.get(arg[0], -1), arg[1].value, arg[2], list(arg[3])]
        case Op.IOTA | Op.GATHER | Op.GET | Op.CONTIGUOUS:
            return arg
        case Op.SCATTER:
            return list(arg)
        case op if op in VIEWS:
            return list(arg)
    return None


def _number_to_json(value: float, dtype: DType) -> Any:
    if not isinstance(value, float):
        return value
    # A float constant means its dtype's number: written so, 0.1 and the float32 nearest to it are one kernel.
    value = rounded(value, dtype)
    return {"f": str(value) if isnan(value) or isinf(value) else value.hex()}


def _arg_from_json(op: Op, dtype: DType, value: object, field: str) -> Arg:
    match op:
        case Op.CONST:
            return _number_from_json(value, dtype, field)
        case Op.PARAM:
            slot, shape = _pair(value, "[slot, shape]", field)
            return (_size(slot, MAX_SLOTS - 1, field), _sizes(shape, field))
        case Op.REDUCE:
            name, axes = _pair(value, "[op, axes]", field)
            if not isinstance(name, str) or name not in Op.__members__ or Op[name] not in REDUCERS:
                raise InvalidGraph(f"{name!r} is not one of {', '.join(sorted(REDUCERS))}", field)
            return (Op[name], _sizes(axes, field))
        case Op.SHRINK | Op.PAD:
            return _triples(value, field)
        case Op.IOTA | Op.GATHER | Op.GET:
            return _size(value, MAX_POINTS, field)
        case Op.CONTIGUOUS:
            if value not in LEVELS:
                raise InvalidGraph(f"{value!r} is not one of {', '.join(LEVELS)}", field)
            return str(value)
        case Op.SCATTER:
            how, axis = _pair(value, "[how, axis]", field)
            if how not in SCATTERS:
                raise InvalidGraph(f"{how!r} is not one of {', '.join(SCATTERS)}", field)
            return (how, _size(axis, MAX_AXES, field))
        case Op.FOLD:
            return _three(_sizes(value, field), "[number, steps, states]", field)
        case Op.HOLE:
            return _hole_from_json(value, field)
        case _ if op in VIEWS:
            return _sizes(value, field)
    if value is not None:
        raise InvalidGraph(f"{op.value} takes null, not {value!r}", field)
    return None


def _pair(value: object, what: str, field: str) -> list[object]:
    if not isinstance(value, list) or len(value) != 2:
        raise InvalidGraph(f"must be {what}", field)
    return value


def _three(value: tuple[int, ...], what: str, field: str) -> tuple[int, ...]:
    if len(value) != 3:
        raise InvalidGraph(f"must be {what}", field)
    return value


def _triples(value: object, field: str) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, list) or len(value) > MAX_AXES:
        raise InvalidGraph(f"must be a list of at most {MAX_AXES} times three integers", field)
    return tuple(_three(_sizes(entry, field), "three integers for each axis", field) for entry in value)


def _hole_from_json(value: object, field: str) -> Arg:
    if not isinstance(value, list) or len(value) != 4:
        raise InvalidGraph("must be [number of its FOLD, kind, number, shape]", field)
    number, kind, which, shape = value
    if kind not in tuple(HoleKind):
        raise InvalidGraph(f"{kind!r} is not one of {', '.join(HoleKind)}", field)
    return (
        _size(number, MAX_NODES, field),
        HoleKind(kind),
        _size(which, MAX_SOURCES, field),
        _sizes(shape, field),
    )


def _size(value: object, most: int, field: str) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise InvalidGraph(f"{value!r} must be an integer from 0 to {most}", field)
    return value


def _sizes(value: object, field: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_AXES:
        raise InvalidGraph(f"must be a list of at most {MAX_AXES} integers", field)
    return tuple(_size(item, MAX_POINTS, field) for item in value)


def _number_from_json(value: object, dtype: DType, field: str) -> bool | int | float:
    if dtype is dt.bool_ and isinstance(value, bool):
        return value
    if dtype.is_int and type(value) is int:
        return value
    if dtype.is_float and isinstance(value, dict) and set(value) == {"f"} and isinstance(value["f"], str):
        return _float_from_json(value["f"], dtype, field)
    raise InvalidGraph(f"{value!r} is not a {dtype.name} constant", field)


def _float_from_json(text: str, dtype: DType, field: str) -> float:
    try:
        value = float(text) if text in ("nan", "inf", "-inf") else float.fromhex(text[:32])
    except (ValueError, OverflowError) as error:
        raise InvalidGraph(f"{text[:32]!r} is not a hexadecimal float: {error}", field) from None
    # One number has one spelling, or equal kernels would have different hashes.
    wanted = _number_to_json(value, dtype)
    if wanted != {"f": text}:
        raise InvalidGraph(f"{text[:32]!r} is not written as {wanted['f']!r}", field)
    return value


# ---------------------------------------------------------------------------------------------- checks


def _check_node(node: UOp, field: str) -> None:
    found = problem(node, Level.DEFINITION) or shape_problem(node)
    if found:
        raise InvalidGraph(f"{node.op.value} {found}", field)
    if node.op is Op.PARAM and prod(node.arg[1]) > MAX_ELEMENTS:
        raise InvalidGraph(f"shape {node.arg[1]} has more than {MAX_ELEMENTS} elements", field)
    if prod(shape_of(node)) > MAX_POINTS:
        raise InvalidGraph(f"shape {shape_of(node)} has more than {MAX_POINTS} elements", field)
    if len(shape_of(node)) > MAX_AXES:
        raise InvalidGraph(f"has {len(shape_of(node))} axes; at most {MAX_AXES} are allowed", field)


def _check_graph(order: list[UOp]) -> None:
    """What makes a definition a kernel: checked when written and when read, so that both agree."""
    if len(order) > MAX_NODES:
        raise InvalidGraph(f"{len(order)} nodes; a kernel has at most {MAX_NODES}", "nodes")
    for number, node in enumerate(order):
        _check_node(node, f"nodes[{number}]")
    reduces = sum(node.op is Op.REDUCE for node in order)
    if reduces > MAX_REDUCES:
        raise InvalidGraph(f"{reduces} REDUCE nodes; a kernel has at most {MAX_REDUCES}", "nodes")
    if order[-1].dtype is dt.void:
        raise InvalidGraph(f"the output is a {order[-1].op.value}, which has no value", "nodes")
    if prod(shape_of(order[-1])) > MAX_ELEMENTS:
        raise InvalidGraph(f"the output has more than {MAX_ELEMENTS} elements", "nodes")
    folds = [node.arg[0] for node in order if node.op is Op.FOLD]
    odd = next((node.arg[0] for node in order if node.op is Op.HOLE and node.arg[0] not in folds), None)
    if odd is not None or len(set(folds)) != len(folds):
        raise InvalidGraph("every FOLD has a number of its own, and every HOLE that of a FOLD", "nodes")
    holes: dict[UOp, Numbers] = {}
    for node in order:
        if outside := open_holes(node, holes):
            holes[node] = outside
    if order[-1] in holes:
        raise InvalidGraph("a HOLE stands outside the body of its FOLD", "nodes")
    slots = sorted(node.arg[0] for node in order if node.op is Op.PARAM)
    if slots != list(range(len(slots))):
        raise InvalidGraph(f"PARAM slots are {slots}; they must be 0, 1, … each with one shape", "nodes")
    if len(slots) > MAX_SLOTS:
        raise InvalidGraph(f"{len(slots)} PARAMs; a kernel has at most {MAX_SLOTS}", "nodes")
    if reduces > 1:
        body(Kernel(order[-1]))  # none may lie inside another's loops
