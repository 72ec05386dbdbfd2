"""The C functions and types that ops become: each is defined once, in front of the kernels that call it.

Names carry the type: max_f32 on one number, max_f32x16 on sixteen lanes. Vectors are the GNU extension that gcc
and clang share. The meaning of every op is the interpreter's: MAX and MIN propagate NaN, // and % floor and give
0 for a divisor of 0, float → int saturates with NaN → 0.
"""

from __future__ import annotations

from engine import dtype as dt
from engine.dtype import DType
from engine.target import Features

SHORT = {dt.float32: "f32", dt.int32: "i32", dt.int64: "i64", dt.bool_: "u8"}
_C_TYPES = {"f32": "float", "i32": "int", "i64": "long", "u8": "unsigned char", "i8": "signed char"}
_BYTES = {"f32": 4, "i32": 4, "i64": 8, "u8": 1, "i8": 1}
_SAME_WIDTH_INT = {"f32": "i32", "i32": "i32", "i64": "i64", "u8": "i8"}
_LIMITS = {
    "i32": ("(-2147483647 - 1)", "2147483647"),
    "i64": ("(-9223372036854775807L - 1)", "9223372036854775807L"),
}
_LIBM = {"exp": "__builtin_expf", "log": "__builtin_logf", "sqrt": "__builtin_sqrtf", "sin": "__builtin_sinf"}


def type_name(dtype: DType, lanes: int = 1) -> str:
    """f32, or f32x16 for sixteen lanes."""
    return SHORT[dtype] + (f"x{lanes}" if lanes > 1 else "")


class Functions:
    """The definitions one source needs, in the order they must stand; each guarded against a second one."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._defined: dict[str, str] = {}

    def source(self) -> str:
        """All definitions."""
        return "".join(
            f"#ifndef TF_{name}\n#define TF_{name}\n{text}\n#endif\n" for name, text in self._defined.items()
        )

    def type(self, short: str, lanes: int = 1) -> str:
        """A value's type."""
        if lanes == 1:
            return self._define(short, f"typedef {_C_TYPES[short]} {short};")
        size = _BYTES[short] * lanes
        name = f"{short}x{lanes}"
        return self._define(name, f"typedef {_C_TYPES[short]} {name} __attribute__((vector_size({size})));")

    def memory(self, short: str, lanes: int) -> str:
        """A vector's type where it lies in memory: aligned like one element."""
        name = f"{short}x{lanes}m"
        attributes = f"vector_size({_BYTES[short] * lanes}), aligned({_BYTES[short]}), may_alias"
        return self._define(name, f"typedef {_C_TYPES[short]} {name} __attribute__(({attributes}));")

    def call(self, op: str, short: str, lanes: int, *arguments: str) -> str:
        """A call of `op` on values of one type; `splat`, `where`, `lt`, `load` … see the methods below."""
        method = getattr(self, f"_{op}", None)
        name = f"{op}_{short}" + (f"x{lanes}" if lanes > 1 else "")
        if name not in self._defined:
            self.type(short)
            if lanes > 1:
                self.type(short, lanes)
            text = method(name, short, lanes) if method else self._by_lane(name, op, short, lanes)
            self._define(name, text)
        return f"{name}({', '.join(arguments)})"

    def _define(self, name: str, text: str) -> str:
        self._defined.setdefault(name, text)
        return name

    def _function(self, result: str, name: str, parameters: str, body: str) -> str:
        return f"static inline __attribute__((always_inline)) {result} {name}({parameters}) {{ {body} }}"

    def _v(self, short: str, lanes: int) -> str:
        return self.type(short, lanes)

    # -- the number's own functions: lanes are looped over unless a vector form is written below --------------

    def _by_lane(self, name: str, op: str, short: str, lanes: int) -> str:
        """Any op of one or two operands, lane by lane."""
        two = op in ("idiv", "mod")
        if lanes == 1:
            body = f"return {_LIBM[op]}(a);" if op in _LIBM else self._whole_division(op, short)
            return self._function(short, name, f"{short} a{f', {short} b' if two else ''}", body)
        vector = self._v(short, lanes)
        each = self.call(op, short, 1, "a[q]", *(["b[q]"] if two else []))
        parameters = f"{vector} a{f', {vector} b' if two else ''}"
        return self._function(
            vector, name, parameters, f"{vector} r; {_loop(lanes, f'r[q] = {each};')} return r;"
        )

    def _whole_division(self, op: str, short: str) -> str:
        # b == -1 apart: INT_MIN / -1 traps; -a wraps as it should
        if op == "idiv":
            return f"if (b == 0) return 0; if (b == -1) return -a; {short} q = a / b; return q - ((a % b != 0) & ((a < 0) != (b < 0)));"
        return f"if (b == 0 || b == -1) return 0; {short} r = a % b; return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;"

    def _max(self, name: str, short: str, lanes: int) -> str:
        return self._extreme(name, short, lanes, ">")

    def _min(self, name: str, short: str, lanes: int) -> str:
        return self._extreme(name, short, lanes, "<")

    def _extreme(self, name: str, short: str, lanes: int, compare: str) -> str:
        """max or min; of floats, NaN if either is NaN (b alone: the comparison is false and b is taken)."""
        type_ = self._v(short, lanes)
        nan = " | (a != a)" if short == "f32" else ""
        chosen = f"(a {compare} b){nan}"
        if lanes == 1:
            return self._function(type_, name, f"{type_} a, {type_} b", f"return {chosen} ? a : b;")
        return self._function(type_, name, f"{type_} a, {type_} b", self._choose(short, lanes, chosen))

    def _choose(self, short: str, lanes: int, mask: str) -> str:
        """`mask ? a : b` by bits; the compilers know it as a blend."""
        whole, type_ = self._v(_SAME_WIDTH_INT[short], lanes), self._v(short, lanes)
        return f"{whole} m = {mask}; return ({type_})((m & ({whole})a) | (~m & ({whole})b));"

    def _where(self, name: str, short: str, lanes: int) -> str:
        type_, bools = self._v(short, lanes), self._v("u8", lanes)
        if lanes == 1:
            return self._function(type_, name, f"u8 c, {type_} a, {type_} b", "return c ? a : b;")
        whole, narrow = self._v(_SAME_WIDTH_INT[short], lanes), self._v("i8", lanes)
        body = self._choose(short, lanes, f"__builtin_convertvector(({narrow})c, {whole}) != 0")
        return self._function(type_, name, f"{bools} c, {type_} a, {type_} b", body)

    def _lt(self, name: str, short: str, lanes: int) -> str:
        return self._compare(name, short, lanes, "<")

    def _eq(self, name: str, short: str, lanes: int) -> str:
        return self._compare(name, short, lanes, "==")

    def _ne(self, name: str, short: str, lanes: int) -> str:
        return self._compare(name, short, lanes, "!=")

    def _compare(self, name: str, short: str, lanes: int, compare: str) -> str:
        type_, bools = self._v(short, lanes), self._v("u8", lanes)
        if lanes == 1:
            return self._function(bools, name, f"{type_} a, {type_} b", f"return a {compare} b;")
        narrow = self._v("i8", lanes)
        body = f"return ({bools})(__builtin_convertvector(a {compare} b, {narrow}) & 1);"
        return self._function(bools, name, f"{type_} a, {type_} b", body)

    def _splat(self, name: str, short: str, lanes: int) -> str:
        type_ = self._v(short, lanes)
        return self._function(type_, name, f"{short} a", f"return ({type_}){{{', '.join(['a'] * lanes)}}};")

    # -- fused multiply-add: the compilers do not contract (-ffp-contract=off) and have no common name for it --

    def _fma(self, name: str, short: str, lanes: int) -> str:
        type_ = self._v(short, lanes)
        return self._function(type_, name, f"{type_} a, {type_} b, {type_} c", self._fma_body(type_, lanes))

    def _fma_body(self, type_: str, lanes: int) -> str:
        if lanes == 1:
            return "return __builtin_fmaf(a, b, c);"
        if lanes == 16 and self._features.isa == "avx512":
            return "return __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4);"  # all lanes, current rounding
        if lanes in (4, 8) and self._features.isa in ("avx2", "avx512"):
            return f"return __builtin_ia32_vfmaddps{'256' if lanes == 8 else ''}(a, b, c);"
        if lanes > 4:
            return self._fma_of_halves(type_, lanes)
        return f"{type_} r; {_loop(lanes, 'r[q] = __builtin_fmaf(a[q], b[q], c[q]);')} return r;"

    def _fma_of_halves(self, type_: str, lanes: int) -> str:
        half = lanes // 2
        low, high = (", ".join(map(str, range(start, start + half))) for start in (0, half))
        part = "__builtin_shufflevector({0}, {0}, {1})"
        halves = [
            self.call("fma", "f32", half, *(part.format(value, chosen) for value in "abc"))
            for chosen in (low, high)
        ]
        whole = ", ".join(map(str, range(lanes)))
        return f"return ({type_})__builtin_shufflevector({halves[0]}, {halves[1]}, {whole});"

    # -- conversions: named after the source type; `to` is part of the op -------------------------------------

    def convert(self, short: str, to: str, lanes: int, value: str) -> str:
        """`value` of type `short` as `to`."""
        if short == to:
            return value
        if to == "u8":
            zero = "0" if lanes == 1 else self.call("splat", short, lanes, "0")
            return self.call("ne", short, lanes, value, zero)
        if short == "f32":
            return self._float_to_int(to, lanes, value)
        type_ = self._v(to, lanes)
        return f"({type_})({value})" if lanes == 1 else f"__builtin_convertvector({value}, {type_})"

    def _float_to_int(self, to: str, lanes: int, value: str) -> str:
        self.type("f32")
        self.type(to)
        low, high = _LIMITS[to]
        top = "0x1p31f" if to == "i32" else "0x1p63f"
        body = f"if (!(a >= -{top})) return a != a ? 0 : {low}; return a >= {top} ? {high} : ({to})a;"
        one = self._define(f"{to}_of_f32", self._function(to, f"{to}_of_f32", "f32 a", body))
        if lanes == 1:
            return f"{one}({value})"
        source, type_, name = self._v("f32", lanes), self._v(to, lanes), f"{to}_of_f32x{lanes}"
        body = f"{type_} r; {_loop(lanes, f'r[q] = {one}(a[q]);')} return r;"
        return f"{self._define(name, self._function(type_, name, f'{source} a', body))}({value})"

    # -- memory -----------------------------------------------------------------------------------------------

    def _load(self, name: str, short: str, lanes: int) -> str:
        """The first n lanes from memory, 0 in the others; nothing behind them is touched."""
        type_ = self._v(short, lanes)
        native = self._native_mask(short, lanes)
        body = f"{type_} v = {{0}}; {_loop(lanes, 'if (q < n) v[q] = p[q];')} return v;"
        if native == "avx512":
            body = f"return ({type_})__builtin_ia32_loadups512_mask((const void *)p, (f32x16){{0}}, {_mask(16)});"
        elif native == "avx2":
            mask = self._lane_mask(lanes)
            body = f"return ({type_})__builtin_ia32_maskloadps256((const void *)p, {mask});"
        return self._function(type_, name, f"const {short} *p, i64 n", body)

    def _store(self, name: str, short: str, lanes: int) -> str:
        """The first n lanes to memory."""
        native = self._native_mask(short, lanes)
        body = _loop(lanes, "if (q < n) p[q] = v[q];")
        if native == "avx512":
            body = f"__builtin_ia32_storeups512_mask((void *)p, (f32x16)v, {_mask(16)});"
        elif native == "avx2":
            body = f"__builtin_ia32_maskstoreps256((void *)p, {self._lane_mask(lanes)}, (f32x8)v);"
        return self._function("void", name, f"{short} *p, {self._v(short, lanes)} v, i64 n", body)

    def _native_mask(self, short: str, lanes: int) -> str:
        self.type("i64")
        if short not in ("f32", "i32") or lanes * 4 not in (32, 64):
            return ""
        wanted = "avx512" if lanes == 16 else "avx2"
        if self._features.isa != "avx512" and self._features.isa != wanted:
            return ""
        self.type("f32", lanes)
        return wanted

    def _lane_mask(self, lanes: int) -> str:
        type_ = self._v("i32", lanes)
        numbers = f"({type_}){{{', '.join(map(str, range(lanes)))}}}"
        return (
            f"({numbers} < {self.call('splat', 'i32', lanes, f'n > {lanes} ? {lanes} : n < 0 ? 0 : (i32)n')})"
        )

    def _first(self, name: str, short: str, lanes: int) -> str:
        """Bools: true in the first n lanes."""
        self.type("i64")
        bools = self._v("u8", lanes)
        numbers = f"({bools}){{{', '.join(map(str, range(lanes)))}}}"
        count = f"(u8)(n > {lanes} ? {lanes} : n < 0 ? 0 : n)"
        body = f"return ({bools})(({numbers} < {self.call('splat', 'u8', lanes, count)}) & 1);"
        return self._function(bools, name, "i64 n", body)


def _loop(lanes: int, statement: str) -> str:
    return f"for (int q = 0; q < {lanes}; q++) {statement}"


def _mask(lanes: int) -> str:
    full = (1 << lanes) - 1
    return f"n >= {lanes} ? {full} : n <= 0 ? 0 : (1 << n) - 1"
