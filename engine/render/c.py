"""A linearized kernel as C, for gcc or clang (GNU vectors and builtins).

`void NAME(void *const *buffers, long first, long last)` computes tiles [first, last): buffers[0] is the output,
buffers[1 + slot] the input of that slot; none may overlap. Every statement of the list is one line; a value is a
vector exactly when it depends on the VEC leaf's range.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import count

from engine import dtype as dt
from engine.affine import affine
from engine.dtype import DType
from engine.ir import UOp, toposort
from engine.linearize import behind_after, reads_accumulator
from engine.offsets import is_lanes
from engine.ops import COMPARE, ELEMENTWISE, Op
from engine.opts import RangeType
from engine.render.c_functions import SHORT, Functions
from engine.target import Features

_INFIX = {
    Op.ADD: "+",
    Op.SUB: "-",
    Op.MUL: "*",
    Op.DIV: "/",
    Op.AND: "&",
    Op.OR: "|",
    Op.XOR: "^",
    Op.LT: "<",
    Op.EQ: "==",
    Op.NE: "!=",
}


class CRenderer:
    """Renders for a CPU of the given features."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def render(self, linear: Sequence[UOp], name: str) -> str:
        """The source of one kernel, complete by itself; several may stand in one file."""
        source = _Source(linear, Functions(self._features))
        body = "".join(f"{line}\n" for line in source.body())
        signature = f"void {name}(void *const *buffers, long first, long last)"
        return f"{source.functions.source()}{signature} {{\n{body}}}\n"


class _Source:
    """The lines of one kernel."""

    def __init__(self, linear: Sequence[UOp], functions: Functions) -> None:
        self.functions = functions
        self._linear = linear
        self._nodes = toposort(*linear)
        self._lanes = _lanes(self._nodes)
        self._addressing = _addressing(self._nodes)
        self._acc_lanes = self._accumulator_lanes()
        self._names: dict[UOp, str] = {}
        self._numbers = count()
        self._inlined = self._stored_at_once()

    def body(self) -> list[str]:
        lines = [f"  {line}" for line in self._pointers()]
        depth = 1
        for node in self._linear:
            if node.op is Op.END:
                lines.append("  " * (depth - 1) + "}" * (len(node.src) - 1))
                depth -= len(node.src) - 1
            elif not self._is_silent(node):
                lines.append("  " * depth + self._statement(node))
            depth += node.op is Op.RANGE
        return lines

    # -- what the list needs ---------------------------------------------------------------------------------

    def _pointers(self) -> list[str]:
        output = next((_memory(n.src[0]) for n in self._linear if _stores_output(n)), None)
        lines = []
        for param in sorted((n for n in self._nodes if n.op is Op.PARAM), key=lambda n: n.arg[0]):
            type_ = self.functions.type(SHORT[param.dtype])
            is_output = param is output
            self._names[param] = "out" if is_output else f"in{param.arg[0]}"
            place = 0 if is_output else 1 + param.arg[0]
            qualifier = "" if is_output else "const "
            lines.append(f"{qualifier}{type_} *restrict {self._names[param]} = buffers[{place}];")
        return lines

    def _accumulator_lanes(self) -> dict[UOp, int]:
        found: dict[UOp, int] = {}
        for node in self._nodes:
            if node.op is Op.INDEX and (memory := behind_after(node.src[0])).op is Op.ACC:
                found[memory] = max(found.get(memory, 1), self._lanes[node])
        return found

    def _stored_at_once(self) -> set[UOp]:
        """Values whose only use is the accumulator store that comes next: they need no name."""
        uses: dict[UOp, int] = {}
        for node in self._nodes:
            for source in node.src:
                uses[source] = uses.get(source, 0) + 1
        pairs = zip(self._linear, self._linear[1:], strict=False)
        return {
            value
            for value, node in pairs
            if node.op is Op.STORE and node.src[1] is value and value.op in ELEMENTWISE and uses[value] == 1
        }

    def _is_silent(self, node: UOp) -> bool:
        """Part of the statements that use it: lanes of an index, constants added to one, values stored at once."""
        if node in self._addressing:
            return self._lanes[node] > 1 or _adds_constant(node)
        return node in self._inlined

    # -- statements ------------------------------------------------------------------------------------------

    def _statement(self, node: UOp) -> str:
        match node.op:
            case Op.RANGE:
                return self._open(node)
            case Op.ACC:
                return self._declare(node)
            case Op.STORE:
                return self._store(node)
        value = self._load(node) if node.op is Op.LOAD else self._compute(node)
        self._names[node] = f"v{next(self._numbers)}"
        return f"const {self._type(node.dtype, self._lanes[node])} {self._names[node]} = {_bare(value)};"

    def _type(self, dtype: DType, lanes: int) -> str:
        return self.functions.type(SHORT[dtype], lanes)

    def _open(self, range_: UOp) -> str:
        number, extent, type_ = range_.arg
        name = self._names[range_] = f"r{number}"
        if type_ is RangeType.THREAD:
            return f"for (long {name} = first; {name} < last; {name}++) {{"
        if not range_.src:
            return f"for (long {name} = 0; {name} < {extent}; {name}++) {{"
        trips = self._scalar(range_.src[0])
        return f"if ({trips}) {{" if extent == 1 else f"for (long {name} = 0; {name} < {trips}; {name}++) {{"

    def _declare(self, acc: UOp) -> str:
        number, extent = acc.arg
        lanes = self._acc_lanes.get(acc, 1)
        names = ", ".join(f"a{number}_{slot}" for slot in range(extent // lanes))
        return f"{self._type(acc.dtype, lanes)} {names};"

    def _accumulator(self, place: UOp) -> str:
        """The variable (or one lane of it) that an INDEX of an ACC means."""
        acc = behind_after(place.src[0])
        lanes = self._acc_lanes[acc]
        first = self._lane(place.src[1], 0)
        slot, lane = divmod(int(first), lanes)
        name = f"a{acc.arg[0]}_{slot}"
        return name if lanes == 1 or self._lanes[place] > 1 else f"{name}[{lane}]"

    def _store(self, node: UOp) -> str:
        place, value = node.src
        if behind_after(place.src[0]).op is Op.ACC:
            return f"{self._accumulator(place)} = {self._value(value, self._acc_lanes[_memory(place)])};"
        lanes = self._lanes[place]
        pointer = self._names[_memory(place)]
        if lanes == 1:
            condition = f"if ({_bare(self._scalar(place.src[2]))}) " if len(place.src) == 3 else ""
            return f"{condition}{pointer}[{_bare(self._scalar(place.src[1]))}] = {self._value(value, 1)};"
        return self._store_lanes(place, pointer, self._value(value, lanes), lanes)

    def _store_lanes(self, place: UOp, pointer: str, value: str, lanes: int) -> str:
        short = SHORT[place.dtype]
        start, leading = self._contiguous(place.src[1]), self._valid_lanes(place)
        if start is None or leading is None:
            conditions = [self._lane_condition(place, q) for q in range(lanes)]
            offsets = [self._lane(place.src[1], q) for q in range(lanes)]
            each = [
                f"if ({c}) {pointer}[{o}] = w[{q}];"
                for q, (c, o) in enumerate(zip(conditions, offsets, strict=True))
            ]
            return f"{{ const {self._type(place.dtype, lanes)} w = {value}; {' '.join(each)} }}"
        if leading == str(lanes):
            return f"*({self.functions.memory(short, lanes)} *)({pointer} + {start}) = {value};"
        return f"{self.functions.call('store', short, lanes, f'{pointer} + {start}', value, leading)};"

    def _load(self, node: UOp) -> str:
        place = node.src[0]
        pointer, short, lanes = self._names[_memory(place)], SHORT[node.dtype], self._lanes[place]
        if lanes == 1:
            loaded = f"{pointer}[{_bare(self._scalar(place.src[1]))}]"
            loaded = f"({loaded} != 0)" if short == "u8" else loaded
            if len(place.src) == 2:
                return loaded
            return f"{self._scalar(place.src[2])} ? {loaded} : {self._value(node.src[1], 1)}"
        loaded = self._load_lanes(node, pointer, short, lanes)
        if short != "u8":
            return loaded
        return self.functions.call(
            "ne", short, lanes, loaded, self.functions.call("splat", short, lanes, "0")
        )

    def _load_lanes(self, node: UOp, pointer: str, short: str, lanes: int) -> str:
        place = node.src[0]
        start, leading = self._contiguous(place.src[1]), self._valid_lanes(place)
        is_zero = len(node.src) == 1 or (node.src[1].op is Op.CONST and not node.src[1].arg)
        if start is None or leading is None or (leading != str(lanes) and not is_zero):
            other = self._value(node.src[1], 1) if len(node.src) == 2 else "0"
            each = [
                f"{self._lane_condition(place, q)} ? {pointer}[{_bare(self._lane(place.src[1], q))}] : {other}"
                if len(place.src) == 3
                else f"{pointer}[{_bare(self._lane(place.src[1], q))}]"
                for q in range(lanes)
            ]
            return f"({self.functions.type(short, lanes)}){{{', '.join(each)}}}"
        if leading == str(lanes):
            return f"*(const {self.functions.memory(short, lanes)} *)({pointer} + {start})"
        return self.functions.call("load", short, lanes, f"{pointer} + {start}", leading)

    # -- places ----------------------------------------------------------------------------------------------

    def _contiguous(self, offset: UOp) -> str | None:
        """Where consecutive lanes start; None if the lanes are not consecutive."""
        if is_lanes(offset):
            return "0"
        if offset.op is Op.ADD and is_lanes(offset.src[1]) and self._lanes[offset.src[0]] == 1:
            return self._scalar(offset.src[0])
        return None

    def _valid_lanes(self, place: UOp) -> str | None:
        """How many leading lanes are valid, as C; None if the valid ones are not the leading ones."""
        lanes = self._lanes[place]
        return self._leading(place.src[2], lanes) if len(place.src) == 3 else str(lanes)

    def _leading(self, condition: UOp, lanes: int) -> str | None:
        """How many leading lanes a condition holds for."""
        parts = _conjuncts(condition)
        scalar = [self._scalar(part) for part in parts if self._lanes[part] == 1]
        counts = [self._count(part) for part in parts if self._lanes[part] > 1]
        if len(counts) > 1 or None in counts:
            return None
        leading = counts[0] if counts else str(lanes)
        return f"({' & '.join(scalar)}) ? {leading} : 0" if scalar else leading

    def _count(self, condition: UOp) -> str | None:
        """`base + lane < limit` as `limit - base`."""
        if condition.op is not Op.LT or condition.src[1].op is not Op.CONST:
            return None
        sum_ = affine(condition.src[0])
        if sum_ is None or [k for node, k in sum_.terms if is_lanes(node)] != [1]:
            return None
        others = [(node, k) for node, k in sum_.terms if not is_lanes(node)]
        if any(self._lanes[node] > 1 for node, _ in others):
            return None
        base = "".join(f" - {self._scalar(node)} * {_number(k)}" for node, k in others)
        return f"{condition.src[1].arg - sum_.offset}L{base}"

    def _lane_condition(self, place: UOp, lane: int) -> str:
        return self._lane(place.src[2], lane) if len(place.src) == 3 else "1"

    def _scalar(self, node: UOp) -> str:
        """An index expression (or condition) that is the same in all lanes."""
        return self._lane(node, 0)

    def _lane(self, node: UOp, lane: int) -> str:
        """An index expression in one lane, in parentheses if it is not a name or number."""
        if node in self._names:
            return self._names[node]
        if is_lanes(node):
            return str(lane)
        if node.op is Op.CONST:
            return _number(int(node.arg))
        sources = [self._lane(source, lane) for source in node.src]
        if all(source.lstrip("-").isdigit() for source in sources) and node.op in (Op.ADD, Op.MUL):
            a, b = map(int, sources)
            return _number(a + b if node.op is Op.ADD else a * b)
        return self._index_expression(node, sources)

    def _index_expression(self, node: UOp, sources: list[str]) -> str:
        """Index arithmetic; divisors are positive constants and dividends not negative, so C's division floors."""
        match node.op:
            case Op.IDIV | Op.MOD:
                return f"({sources[0]} {'/' if node.op is Op.IDIV else '%'} {sources[1]})"
            case Op.MIN | Op.MAX:
                return self.functions.call(node.op.value.lower(), SHORT[node.dtype], 1, *sources)
            case Op.NOT:
                return f"!{sources[0]}"
            case Op.CAST:
                return f"(long){sources[0]}"
            case Op.NEG:
                return f"(-{sources[0]})"
        return f"({sources[0]} {_INFIX[node.op]} {sources[1]})"

    # -- values ----------------------------------------------------------------------------------------------

    def _value(self, node: UOp, lanes: int) -> str:
        """A value as an operand of `lanes` lanes."""
        text = self._operand(node, lanes)
        return (
            self.functions.call("splat", SHORT[node.dtype], lanes, text)
            if self._lanes[node] < lanes
            else text
        )

    def _operand(self, node: UOp, lanes: int) -> str:
        if node in self._names:
            return self._names[node]
        if node.op is Op.AFTER:
            return self._operand(node.src[0], lanes)
        if node.op is Op.CONST:
            return _constant(node.dtype, node.arg)
        if reads_accumulator(node):
            return self._accumulator(node.src[0])
        if node in self._addressing and self._lanes[node] > 1:
            leading = self._leading(node, self._lanes[node])
            assert leading is not None, "a condition on lanes holds for leading ones"
            return self.functions.call("first", "u8", self._lanes[node], leading)
        return self._lane(node, 0) if node in self._addressing else self._compute(node)

    def _compute(self, node: UOp) -> str:
        if node in self._addressing:
            return self._index_expression(node, [self._scalar(source) for source in node.src])
        lanes, short = self._lanes[node], SHORT[node.src[0].dtype]
        if node.op is Op.WHERE:
            return self._where(node, lanes)
        sources = [self._value(source, lanes) for source in node.src]
        if node.op is Op.CAST:
            return self.functions.convert(short, SHORT[node.dtype], lanes, sources[0])
        if node.op is Op.NEG:
            return f"-{sources[0]}"
        if node.op is Op.NOT:
            return f"{sources[0]} ^ 1" if node.dtype is dt.bool_ else f"~{sources[0]}"
        if node.op in _INFIX and (lanes == 1 or node.op not in COMPARE):
            return f"{sources[0]} {_INFIX[node.op]} {sources[1]}"
        op = "fma" if node.op is Op.MULACC else node.op.value.lower()
        return self.functions.call(op, short, lanes, *sources)

    def _where(self, node: UOp, lanes: int) -> str:
        condition, *values = node.src
        chosen = [self._value(value, lanes) for value in values]
        if self._lanes[condition] == 1:
            return f"{self._value(condition, 1)} ? {chosen[0]} : {chosen[1]}"
        return self.functions.call("where", SHORT[node.dtype], lanes, self._value(condition, lanes), *chosen)


def _memory(place: UOp) -> UOp:
    return behind_after(place.src[0])


def _stores_output(node: UOp) -> bool:
    return node.op is Op.STORE and _memory(node.src[0]).op is Op.PARAM


def _lanes(nodes: list[UOp]) -> dict[UOp, int]:
    """1, or the lanes of the VEC range that a value depends on; what an AFTER waits for does not count."""
    found: dict[UOp, int] = {}
    for node in nodes:
        if node.op is Op.RANGE:
            found[node] = node.arg[1] if is_lanes(node) else 1
        else:
            sources = node.src[:1] if node.op is Op.AFTER else node.src
            found[node] = max((found[source] for source in sources), default=1)
    return found


def _addressing(nodes: list[UOp]) -> set[UOp]:
    """What is computed from ranges and constants alone: offsets, conditions and trip counts, never data."""
    found: set[UOp] = set()
    for node in nodes:
        others = [source for source in node.src if source.op is not Op.CONST]
        if node.op in ELEMENTWISE and others and all(s in found or s.op is Op.RANGE for s in others):
            found.add(node)
    return found


def _adds_constant(node: UOp) -> bool:
    return node.op is Op.ADD and node.src[1].op is Op.CONST


def _conjuncts(condition: UOp) -> list[UOp]:
    if condition.op is not Op.AND:
        return [condition]
    return [part for source in condition.src for part in _conjuncts(source)]


def _bare(text: str) -> str:
    """`text` without parentheses round all of it."""
    if not text.startswith("("):
        return text
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[1:-1] if place == len(text) - 1 else text
    return text


def _number(value: int) -> str:
    return str(value) if value >= 0 else f"({value})"


def _constant(dtype: DType, value: bool | int | float) -> str:
    if dtype is dt.bool_:
        return str(int(value))
    if not dtype.is_float:
        suffix = "L" if dtype is dt.int64 else ""
        if value == -(1 << (8 * dtype.itemsize - 1)):  # C has no negative literals
            return f"({value + 1}{suffix} - 1)"
        return f"{value}{suffix}" if value >= 0 else f"({value}{suffix})"
    return _float_constant(struct.unpack("<f", struct.pack("<f", value))[0])


def _float_constant(value: float) -> str:
    if math.isnan(value):
        return '__builtin_nanf("")'
    if math.isinf(value):
        return "__builtin_inff()" if value > 0 else "(-__builtin_inff())"
    mantissa, exponent = value.hex().split("p")
    text = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}p{exponent}f"
    return f"({text})" if text.startswith("-") else text
