"""A linearized kernel as C, for gcc or clang (GNU vectors and builtins).

`void NAME(void *const *buffers, long first, long last)` computes tiles [first, last): buffers[0] is the output,
buffers[1 + slot] the input of that slot; none may overlap. Every statement of the list is one line; constants,
`base + constant` of an address, lane numbers and `lane < n` stand where they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from engine import dtype as dt
from engine.dtype import DType
from engine.ir import UOp, toposort
from engine.lanes import lanes_of, leading_lanes
from engine.linearize import behind_after, reads_accumulator
from engine.offsets import is_lanes
from engine.ops import COMPARE, ELEMENTWISE, Op
from engine.opts import RangeType
from engine.render.c_functions import Functions
from engine.render.c_types import SHORT, constant
from engine.render.language import (
    divides_plainly,
    output_of,
    scratch_place,
    shifts_inside,
    stages_of,
)
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
        if any(node.arg == "stream" for node in linear if node.op is Op.STORE):
            body += "  __atomic_thread_fence(__ATOMIC_SEQ_CST);\n"  # others see them once the kernel is done
        signature = f"void {name}(void *const *buffers, long first, long last)"
        return f"{source.functions.source()}{signature} {{\n{body}}}\n"


class _Source:
    """The lines of one kernel."""

    def __init__(self, linear: Sequence[UOp], functions: Functions) -> None:
        self.functions = functions
        self._linear = linear
        self._nodes = toposort(*linear)
        self._acc_lanes = {
            behind_after(node.src[0]): lanes_of(node) for node in self._nodes if node.op is Op.INDEX
        }
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
        output = output_of(self._linear)
        lines = []
        for param in sorted((n for n in self._nodes if n.op is Op.PARAM), key=lambda n: n.arg[0]):
            type_ = self.functions.type(SHORT[param.dtype])
            is_output = param is output
            self._names[param] = "out" if is_output else f"in{param.arg[0]}"
            place = 0 if is_output else 1 + param.arg[0]
            qualifier = "" if is_output else "const "
            lines.append(f"{qualifier}{type_} *restrict {self._names[param]} = buffers[{place}];")
        return lines + [self._stage(node) for node in stages_of(self._nodes)]

    def _stage(self, stage: UOp) -> str:
        id_, _, at = stage.arg
        self._names[stage] = f"s{id_}"
        type_, place = self.functions.type(SHORT[stage.dtype]), scratch_place(self._nodes)
        return f"{type_} *restrict s{id_} = ({type_} *)((char *)buffers[{place}] + {at});"

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
        """Part of the statements that use it: constants added to an address, masks, values stored at once."""
        return node in self._inlined or _adds_constant(node) or _counts_lanes(node)

    # -- statements ------------------------------------------------------------------------------------------

    def _statement(self, node: UOp) -> str:
        match node.op:
            case Op.RANGE:
                return self._open(node)
            case Op.ACC:
                return self._declare(node)
            case Op.STORE:
                return self._store(node)
            case Op.PREFETCH:
                place = node.src[0]
                return (
                    f"__builtin_prefetch({self._names[_memory(place)]} + {self._offset(place.src[1])}, 1, 3);"
                )
        value = self._load(node) if node.op is Op.LOAD else self._compute(node)
        self._names[node] = f"v{next(self._numbers)}"
        return f"const {self._type(node.dtype, lanes_of(node))} {self._names[node]} = {_bare(value)};"

    def _type(self, dtype: DType, lanes: int) -> str:
        return self.functions.type(SHORT[dtype], lanes)

    def _open(self, range_: UOp) -> str:
        number, extent, type_ = range_.arg
        name = self._names[range_] = f"r{number}"
        if type_ is RangeType.THREAD:
            return f"for (long {name} = first; {name} < last; {name}++) {{"
        if not range_.src:
            return f"for (long {name} = 0; {name} < {extent}; {name}++) {{"
        trips = self._text(range_.src[0])
        if extent == 1:
            return f"if ({_bare(trips)}) {{"
        return f"for (long {name} = 0; {name} < {trips}; {name}++) {{"

    def _declare(self, acc: UOp) -> str:
        number, extent = acc.arg
        lanes = self._acc_lanes.get(acc, 1)
        names = ", ".join(f"a{number}_{slot}" for slot in range(extent // lanes))
        return f"{self._type(acc.dtype, lanes)} {names};"

    def _accumulator(self, place: UOp) -> str:
        """The variable that an INDEX of an ACC means."""
        return f"a{_memory(place).arg[0]}_{place.src[1].arg // lanes_of(place)}"

    def _store(self, node: UOp) -> str:
        place, value = node.src
        lanes = lanes_of(place)
        stored = _bare(self._value(value, lanes))
        if _memory(place).op is Op.ACC:
            return f"{self._accumulator(place)} = {stored};"
        pointer, start = self._names[_memory(place)], self._offset(place.src[1])
        if lanes == 1:
            condition = f"if ({_bare(self._text(place.src[2]))}) " if len(place.src) == 3 else ""
            return f"{condition}{pointer}[{_bare(start)}] = {stored};"
        short = SHORT[value.dtype]
        if len(place.src) == 2 and node.arg == "stream":
            return f"{self.functions.call('stream', short, lanes, f'{pointer} + {start}', stored)};"
        if len(place.src) == 2:
            return f"*({self.functions.memory(short, lanes)} *)({pointer} + {start}) = {stored};"
        which, mask = self._mask(place.src[2], lanes)
        return f"{self.functions.call(f'store{which}', short, lanes, f'{pointer} + {start}', stored, mask)};"

    def _load(self, node: UOp) -> str:
        place = node.src[0]
        lanes, short = lanes_of(place), SHORT[node.dtype]
        pointer, start = self._names[_memory(place)], self._offset(place.src[1])
        if lanes > 1:
            return self._load_lanes(node, f"{pointer} + {start}", short, lanes)
        loaded = f"{pointer}[{_bare(start)}]"
        loaded = f"({loaded} != 0)" if node.dtype is dt.bool_ else loaded
        if len(place.src) == 2:
            return loaded
        return f"{self._text(place.src[2])} ? {loaded} : {self._value(node.src[1], 1)}"

    def _load_lanes(self, node: UOp, pointer: str, short: str, lanes: int) -> str:
        valid = node.src[0].src[2:]
        if not valid:
            loaded = f"*(const {self.functions.memory(short, lanes)} *)({pointer})"
        else:
            which, mask = self._mask(valid[0], lanes)
            loaded = self.functions.call(f"load{which}", short, lanes, pointer, mask)
        if node.dtype is dt.bool_:
            loaded = self.functions.call(
                "ne", short, lanes, loaded, self.functions.call("splat", short, lanes, "0")
            )
        if not valid or (node.src[1].op is Op.CONST and node.src[1].arg == 0):
            return loaded
        holds, other = self._value(valid[0], lanes), self._value(node.src[1], lanes)
        return self.functions.call("where", short, lanes, holds, loaded, other)

    def _mask(self, valid: UOp, lanes: int) -> tuple[str, str]:
        """("", how many leading lanes are valid), or ("_where", which lanes are)."""
        leading = leading_lanes(valid)
        return ("", self._text(leading)) if leading is not None else ("_where", self._value(valid, lanes))

    # -- values ----------------------------------------------------------------------------------------------

    def _value(self, node: UOp, lanes: int) -> str:
        """A value as an operand of `lanes` lanes."""
        text = self._text(node)
        if lanes_of(node) == lanes:
            return text
        return self.functions.call("splat", SHORT[node.dtype], lanes, text)

    def _text(self, node: UOp) -> str:
        """A value with its own lanes: a name, a number, a call, or in parentheses."""
        node = behind_after(node)
        if node in self._names:
            return self._names[node]
        if node.op is Op.CONST:
            return constant(node.dtype, node.arg)
        if is_lanes(node):
            return self.functions.call("numbers", "i64", lanes_of(node))
        if reads_accumulator(node):
            return self._accumulator(node.src[0])
        if _counts_lanes(node):
            return self.functions.call("first", "b8", lanes_of(node), self._text(node.src[1]))
        return f"({self._compute(node)})"

    def _offset(self, node: UOp) -> str:
        return (
            constant(dt.int32, node.arg) if node.op is Op.CONST and node.arg < 1 << 31 else self._text(node)
        )

    def _compute(self, node: UOp) -> str:
        lanes, short = lanes_of(node), SHORT[node.src[0].dtype]
        match node.op:
            case Op.WHERE:
                return self._where(node, lanes)
            case Op.LANE:
                return f"{self._text(node.src[0])}[{node.arg}]"
            case Op.VECTOR:
                return f"({self._type(node.dtype, lanes)}){{{', '.join(self._text(s) for s in node.src)}}}"
        sources = [self._value(source, lanes) for source in node.src]
        match node.op:
            case Op.CAST:
                return self.functions.convert(short, SHORT[node.dtype], lanes, sources[0])
            case Op.BITCAST:
                return self.functions.reinterpret(short, SHORT[node.dtype], lanes, sources[0])
            case Op.NEG:
                return f"-{sources[0]}"
            case Op.NOT if node.dtype is dt.bool_:
                return f"{sources[0]} ^ {self._value(UOp(Op.CONST, dt.bool_, (), True), lanes)}"
            case Op.NOT:
                return f"~{sources[0]}"
        infix = _infix(node)
        if infix and (lanes == 1 or node.op not in COMPARE):
            return f"{sources[0]} {infix} {sources[1]}"
        op = "fma" if node.op is Op.MULACC else node.op.value.lower()
        return self.functions.call(op, short, lanes, *sources)

    def _where(self, node: UOp, lanes: int) -> str:
        condition, *values = node.src
        chosen = [self._value(value, lanes) for value in values]
        if lanes_of(condition) == 1:
            return f"{self._text(condition)} ? {chosen[0]} : {chosen[1]}"
        return self.functions.call("where", SHORT[node.dtype], lanes, self._text(condition), *chosen)


def _memory(place: UOp) -> UOp:
    return behind_after(place.src[0])


def _infix(node: UOp) -> str:
    """C's own operator where it means the same; "" where a function is needed."""
    if node.op in (Op.IDIV, Op.MOD) and divides_plainly(node):
        return "/" if node.op is Op.IDIV else "%"
    if node.op in (Op.SHL, Op.SHR) and shifts_inside(node):
        return "<<" if node.op is Op.SHL else ">>"
    return _INFIX.get(node.op, "")


def _adds_constant(node: UOp) -> bool:
    """Is it an int64 and a constant? Not an accumulator and one: that has to be read before it changes."""
    if node.dtype is not dt.int64 or lanes_of(node) != 1 or not _is_sum_with_constant(node):
        return False
    while _is_sum_with_constant(node):
        node = node.src[0]
    return not reads_accumulator(node)


def _is_sum_with_constant(node: UOp) -> bool:
    return node.op is Op.ADD and node.src[1].op is Op.CONST


def _counts_lanes(node: UOp) -> bool:
    """Is it `lane < n`?"""
    return node.op is Op.LT and leading_lanes(node) is not None


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
