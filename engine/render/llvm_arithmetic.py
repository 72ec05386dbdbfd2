"""What every op is in LLVM assembly, on one value or on vectors: the interpreter's meaning, spelled out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine import dtype as dt
from engine.dtype import DType
from engine.ir import UOp
from engine.ops import COMPARE, Op
from engine.render.language import divides_plainly, shifts_inside
from engine.render.llvm_types import constant, memory_type, suffix, type_of

_PLAIN = {Op.ADD: "add", Op.SUB: "sub", Op.MUL: "mul", Op.DIV: "div"}
_BITS = {Op.AND: "and", Op.OR: "or", Op.XOR: "xor"}
_INTRINSICS = {Op.SQRT: "sqrt", Op.TRUNC: "trunc", Op.MULACC: "fma"}
_LIBM = {(Op.SIN, dt.float64): "sin", (Op.FMOD, dt.float64): "fmod", (Op.FMOD, dt.float32): "fmodf"}
_FLOAT_COMPARISONS = {Op.LT: "olt", Op.EQ: "oeq", Op.NE: "une"}


class Arithmetic:
    """Writes instructions by `emit`, which gives the name of the result; collects the declarations they need."""

    def __init__(self, emit: Callable[[str], str]) -> None:
        self._emit = emit
        self.declarations: dict[str, str] = {}

    def compute(self, node: UOp, lanes: int, src: Sequence[str]) -> str:
        """An element-wise op other than WHERE on operands that have its lanes."""
        op, dtype = node.op, node.dtype
        if op in COMPARE:
            return self._compare(op, node.src[0].dtype, lanes, *src)
        if op is Op.CAST:
            return self._cast(src[0], node.src[0].dtype, dtype, lanes)
        if op is Op.BITCAST:
            return self._emit(
                f"bitcast {type_of(node.src[0].dtype, lanes)} {src[0]} to {type_of(dtype, lanes)}"
            )
        if (op, dtype) in _LIBM:
            return self._by_lane(_LIBM[op, dtype], dtype, lanes, src)
        if op in _INTRINSICS:
            return self._intrinsic(_INTRINSICS[op], dtype, lanes, src)
        if op in (Op.MAX, Op.MIN):
            return self._extreme(op, dtype, lanes, *src)
        if op in (Op.SHL, Op.SHR):
            return self._shift(node, lanes, *src)
        if op in (Op.IDIV, Op.MOD):
            return self._division(node, lanes, *src)
        return self._plain(op, dtype, lanes, src)

    def _plain(self, op: Op, dtype: DType, lanes: int, src: Sequence[str]) -> str:
        type_ = type_of(dtype, lanes)
        if op is Op.NEG:
            return self._emit(
                f"fneg {type_} {src[0]}" if dtype.is_float else f"sub {type_} {_zero(dtype, lanes)}, {src[0]}"
            )
        if op is Op.NOT:
            ones = constant(dtype, True if dtype is dt.bool_ else -1, lanes)
            return self._emit(f"xor {type_} {src[0]}, {ones}")
        name = _BITS.get(op) or ("f" if dtype.is_float else "") + _PLAIN[op]
        return self._emit(f"{name} {type_} {src[0]}, {src[1]}")

    def splat(self, dtype: DType, lanes: int, value: str) -> str:
        """One value in every lane."""
        type_ = type_of(dtype, lanes)
        first = self._emit(f"insertelement {type_} poison, {type_of(dtype)} {value}, i64 0")
        return self._emit(f"shufflevector {type_} {first}, {type_} poison, <{lanes} x i32> zeroinitializer")

    def gathered(self, dtype: DType, values: Sequence[str]) -> str:
        """A vector of single values."""
        type_, found = type_of(dtype, len(values)), "poison"
        for lane, value in enumerate(values):
            found = self._emit(f"insertelement {type_} {found}, {type_of(dtype)} {value}, i64 {lane}")
        return found

    def masked(self, what: str, dtype: DType, lanes: int) -> str:
        """The name of the intrinsic that loads or stores the lanes of a mask and touches no others."""
        stored = dt.uint8 if dtype is dt.bool_ else dtype
        type_, mask = memory_type(dtype, lanes), f"<{lanes} x i1>"
        if what == "load":
            return self._declare(
                type_, f"llvm.masked.load.{suffix(stored, lanes)}.p0", "ptr", "i32 immarg", mask, type_
            )
        return self._declare(
            "void", f"llvm.masked.store.{suffix(stored, lanes)}.p0", type_, "ptr", "i32 immarg", mask
        )

    def _declare(self, result: str, name: str, *parameters: str, attributes: str = "") -> str:
        self.declarations[name] = f"declare {result} @{name}({', '.join(parameters)}){attributes}"
        return f"@{name}"

    # -- functions -------------------------------------------------------------------------------------------

    def _intrinsic(self, name: str, dtype: DType, lanes: int, src: Sequence[str]) -> str:
        type_ = type_of(dtype, lanes)
        function = self._declare(type_, f"llvm.{name}.{suffix(dtype, lanes)}", *[type_] * len(src))
        return self._emit(f"call {type_} {function}({', '.join(f'{type_} {text}' for text in src)})")

    def _by_lane(self, name: str, dtype: DType, lanes: int, src: Sequence[str]) -> str:
        """A function of the C library, one lane after the other."""
        one, type_ = type_of(dtype), type_of(dtype, lanes)
        function = self._declare(one, name, *[one] * len(src), attributes=" nounwind willreturn readnone")

        def called(values: Sequence[str]) -> str:
            return self._emit(f"call {one} {function}({', '.join(f'{one} {value}' for value in values)})")

        if lanes == 1:
            return called(src)
        found = []
        for lane in range(lanes):
            found.append(called([self._emit(f"extractelement {type_} {value}, i64 {lane}") for value in src]))
        return self.gathered(dtype, found)

    # -- comparisons -----------------------------------------------------------------------------------------

    def _compare(self, op: Op, dtype: DType, lanes: int, a: str, b: str) -> str:
        type_ = type_of(dtype, lanes)
        if dtype.is_float:
            return self._emit(f"fcmp {_FLOAT_COMPARISONS[op]} {type_} {a}, {b}")
        if op is Op.LT:
            return self._emit(f"icmp {'u' if dtype.low == 0 else 's'}lt {type_} {a}, {b}")
        return self._emit(f"icmp {op.value.lower()} {type_} {a}, {b}")

    def _extreme(self, op: Op, dtype: DType, lanes: int, a: str, b: str) -> str:
        """MAX or MIN; of floats, NaN if either is NaN (b alone: the comparison is false and b is taken)."""
        type_ = type_of(dtype, lanes)
        sign = "o" if dtype.is_float else "u" if dtype.low == 0 else "s"
        compare = "fcmp" if dtype.is_float else "icmp"
        takes_a = self._emit(f"{compare} {sign}{'gt' if op is Op.MAX else 'lt'} {type_} {a}, {b}")
        if dtype.is_float:
            nan = self._emit(f"fcmp uno {type_} {a}, {a}")
            takes_a = self._emit(f"or {type_of(dt.bool_, lanes)} {takes_a}, {nan}")
        return self._select(takes_a, dtype, lanes, a, b)

    def _select(self, condition: str, dtype: DType, lanes: int, a: str, b: str) -> str:
        type_ = type_of(dtype, lanes)
        return self._emit(f"select {type_of(dt.bool_, lanes)} {condition}, {type_} {a}, {type_} {b}")

    # -- integers --------------------------------------------------------------------------------------------

    def _shift(self, node: UOp, lanes: int, a: str, by: str) -> str:
        dtype, type_ = node.dtype, type_of(node.dtype, lanes)
        fills = node.op is Op.SHR and not dtype.is_unsigned
        name = "shl" if node.op is Op.SHL else "ashr" if fills else "lshr"
        if shifts_inside(node):
            return self._emit(f"{name} {type_} {a}, {by}")
        width = _number(dtype, dtype.bits, lanes)
        inside = self._emit(f"icmp ult {type_} {by}, {width}")
        most = _number(dtype, dtype.bits - 1 if fills else 0, lanes)
        shifted = self._emit(f"{name} {type_} {a}, {self._select(inside, dtype, lanes, by, most)}")
        return shifted if fills else self._select(inside, dtype, lanes, shifted, _zero(dtype, lanes))

    def _division(self, node: UOp, lanes: int, a: str, b: str) -> str:
        """// and %, which floor; by 0 they give 0, and a division by -1 must not trap."""
        dtype, type_, zero = node.dtype, type_of(node.dtype, lanes), _zero(node.dtype, lanes)
        name = "div" if node.op is Op.IDIV else "rem"
        if divides_plainly(node):
            return self._emit(f"u{name} {type_} {a}, {b}")
        by_zero = self._emit(f"icmp eq {type_} {b}, {zero}")
        if dtype.is_unsigned:
            divisor = self._select(by_zero, dtype, lanes, _number(dtype, 1, lanes), b)
            return self._select(by_zero, dtype, lanes, zero, self._emit(f"u{name} {type_} {a}, {divisor}"))
        by_minus_one = self._emit(f"icmp eq {type_} {b}, {_number(dtype, -1, lanes)}")
        either = self._emit(f"or {type_of(dt.bool_, lanes)} {by_zero}, {by_minus_one}")
        divisor = self._select(either, dtype, lanes, _number(dtype, 1, lanes), b)
        remainder = self._emit(f"srem {type_} {a}, {divisor}")
        there = self._emit(f"icmp ne {type_} {remainder}, {zero}")
        differ = self._emit(f"icmp slt {type_} {self._emit(f'xor {type_} {a}, {b}')}, {zero}")
        floors = self._emit(f"and {type_of(dt.bool_, lanes)} {there}, {differ}")
        if node.op is Op.MOD:
            moved = self._emit(f"add {type_} {remainder}, {divisor}")
            found = self._select(floors, dtype, lanes, moved, remainder)
            return self._select(either, dtype, lanes, zero, found)
        quotient = self._emit(f"sdiv {type_} {a}, {divisor}")
        lower = self._emit(f"sub {type_} {quotient}, {_number(dtype, 1, lanes)}")
        found = self._select(floors, dtype, lanes, lower, quotient)
        negated = self._emit(f"sub {type_} {zero}, {a}")
        found = self._select(by_minus_one, dtype, lanes, negated, found)
        return self._select(by_zero, dtype, lanes, zero, found)

    # -- conversions -----------------------------------------------------------------------------------------

    def _cast(self, value: str, source: DType, dtype: DType, lanes: int) -> str:
        old, new = type_of(source, lanes), type_of(dtype, lanes)
        if dtype is dt.bool_:
            return (
                value
                if source is dt.bool_
                else self._compare(Op.NE, source, lanes, value, _zero(source, lanes))
            )
        if source.is_float and not dtype.is_float:
            name = f"llvm.fpto{'u' if dtype.is_unsigned else 's'}i.sat.{suffix(dtype, lanes)}.{suffix(source, lanes)}"
            return self._emit(f"call {new} {self._declare(new, name, old)}({old} {value})")
        name = _conversion(source, dtype)
        return self._emit(f"{name} {old} {value} to {new}") if name else value


def _conversion(source: DType, dtype: DType) -> str:
    """The instruction from a number or bool to a number, but for float to integer; "" where the bits stay."""
    unsigned = source.low == 0 if not source.is_float else False
    if dtype.is_float and not source.is_float:
        return "uitofp" if unsigned else "sitofp"
    wider = dtype.itemsize > source.itemsize or source is dt.bool_
    if dtype.is_float:
        return "" if dtype == source else "fpext" if wider else "fptrunc"
    if dtype.itemsize == source.itemsize and source is not dt.bool_:
        return ""
    return "trunc" if not wider else "zext" if unsigned else "sext"


def _number(dtype: DType, value: int, lanes: int) -> str:
    return constant(dtype, value, lanes)


def _zero(dtype: DType, lanes: int) -> str:
    return constant(dtype, False if dtype is dt.bool_ else 0.0 if dtype.is_float else 0, lanes)
