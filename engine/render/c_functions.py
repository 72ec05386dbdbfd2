"""The C functions and types that ops become: each is defined once, in front of the kernels that call it.

Names carry the type: max_f32 on one number, max_f32x16 on sixteen lanes. Vectors are the GNU extension that gcc
and clang share. The meaning of every op is the interpreter's: MAX and MIN propagate NaN, // and % floor and give
0 for a divisor of 0, shifts by the width or more leave 0 or the sign, float → int saturates with NaN → 0.
"""

from __future__ import annotations

from engine.render.c_types import C_TYPES, DTYPE, constant, is_float, signed, size_of, unsigned
from engine.target import Features

_LIBM = ("sqrt", "sin", "trunc", "fmod")


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
            return self._define(short, f"typedef {C_TYPES[short]} {short};")
        size = size_of(short) * lanes
        name = f"{short}x{lanes}"
        return self._define(name, f"typedef {C_TYPES[short]} {name} __attribute__((vector_size({size})));")

    def memory(self, short: str, lanes: int) -> str:
        """A vector's type where it lies in memory: aligned like one element."""
        name = f"{short}x{lanes}m"
        attributes = f"vector_size({size_of(short) * lanes}), aligned({size_of(short)}), may_alias"
        return self._define(name, f"typedef {C_TYPES[short]} {name} __attribute__(({attributes}));")

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
        two = op in ("idiv", "mod", "fmod")
        if lanes == 1:
            body = (
                f"return {_libm(op, short)}(a{', b' if two else ''});"
                if op in _LIBM
                else _whole_division(op, short)
            )
            return self._function(short, name, f"{short} a{f', {short} b' if two else ''}", body)
        vector = self._v(short, lanes)
        each = self.call(op, short, 1, "a[q]", *(["b[q]"] if two else []))
        parameters = f"{vector} a{f', {vector} b' if two else ''}"
        return self._function(
            vector, name, parameters, f"{vector} r; {_loop(lanes, f'r[q] = {each};')} return r;"
        )

    def _max(self, name: str, short: str, lanes: int) -> str:
        return self._extreme(name, short, lanes, ">")

    def _min(self, name: str, short: str, lanes: int) -> str:
        return self._extreme(name, short, lanes, "<")

    def _extreme(self, name: str, short: str, lanes: int, compare: str) -> str:
        """max or min; of floats, NaN if either is NaN (b alone: the comparison is false and b is taken)."""
        type_ = self._v(short, lanes)
        nan = " | (a != a)" if is_float(short) else ""
        chosen = f"(a {compare} b){nan}"
        if lanes == 1:
            return self._function(type_, name, f"{type_} a, {type_} b", f"return {chosen} ? a : b;")
        return self._function(type_, name, f"{type_} a, {type_} b", self._choose(short, lanes, chosen))

    def _choose(self, short: str, lanes: int, mask: str) -> str:
        """`mask ? a : b` by bits; the compilers know it as a blend."""
        whole, type_ = self._v(signed(short), lanes), self._v(short, lanes)
        return f"{whole} m = {mask}; return ({type_})((m & ({whole})a) | (~m & ({whole})b));"

    def _where(self, name: str, short: str, lanes: int) -> str:
        type_, bools = self._v(short, lanes), self._v("b8", lanes)
        whole, narrow = self._v(signed(short), lanes), self._v("i8", lanes)
        body = self._choose(short, lanes, f"__builtin_convertvector(({narrow})c, {whole}) != 0")
        return self._function(type_, name, f"{bools} c, {type_} a, {type_} b", body)

    def _stream(self, name: str, short: str, lanes: int) -> str:
        """A store past the caches where the address allows it and the compiler knows how."""
        size, type_ = size_of(short) * lanes, self._v(short, lanes)
        memory, words = self.memory(short, lanes), f"long long __attribute__((vector_size({size})))"
        builtins = {16: ("SSE2", "movntdq"), 32: ("AVX", "movntdq256"), 64: ("AVX512F", "movntdq512")}
        feature, builtin = builtins.get(size, ("", ""))
        plain = f"*({memory} *)p = v;"
        if not feature:
            return self._function("void", name, f"{short} *p, {type_} v", plain)
        streamed = f"if (((unsigned long)p & {size - 1}) == 0)"
        return (
            "#if defined(__clang__)\n"
            + self._function(
                "void",
                name,
                f"{short} *p, {type_} v",
                f"{streamed} __builtin_nontemporal_store(v, ({type_} *)p); else {plain}",
            )
            + f"\n#elif defined(__{feature}__)\n"
            + self._function(
                "void",
                name,
                f"{short} *p, {type_} v",
                f"{streamed} __builtin_ia32_{builtin}(({words} *)p, ({words})v); else {plain}",
            )
            + "\n#else\n"
            + self._function("void", name, f"{short} *p, {type_} v", plain)
            + "\n#endif"
        )

    def _lt(self, name: str, short: str, lanes: int) -> str:
        return self._compare(name, short, lanes, "<")

    def _eq(self, name: str, short: str, lanes: int) -> str:
        return self._compare(name, short, lanes, "==")

    def _ne(self, name: str, short: str, lanes: int) -> str:
        return self._compare(name, short, lanes, "!=")

    def _compare(self, name: str, short: str, lanes: int, compare: str) -> str:
        type_, bools = self._v(short, lanes), self._v("b8", lanes)
        if lanes == 1:
            return self._function(bools, name, f"{type_} a, {type_} b", f"return a {compare} b;")
        narrow = self._v("i8", lanes)
        body = f"return ({bools})(__builtin_convertvector(a {compare} b, {narrow}) & 1);"
        return self._function(bools, name, f"{type_} a, {type_} b", body)

    def _splat(self, name: str, short: str, lanes: int) -> str:
        type_ = self._v(short, lanes)
        return self._function(type_, name, f"{short} a", f"return ({type_}){{{', '.join(['a'] * lanes)}}};")

    def _numbers(self, name: str, short: str, lanes: int) -> str:
        """0, 1, 2 …"""
        type_ = self._v(short, lanes)
        return self._function(type_, name, "void", f"return ({type_}){{{_counting(lanes)}}};")

    def _shl(self, name: str, short: str, lanes: int) -> str:
        return self._shift(name, short, lanes, "<<")

    def _shr(self, name: str, short: str, lanes: int) -> str:
        return self._shift(name, short, lanes, ">>")

    def _shift(self, name: str, short: str, lanes: int, shift: str) -> str:
        """A shift by any number: outside of the width 0, or where the sign fills in, as by the width less one."""
        type_, count = self._v(short, lanes), self._v(unsigned(short), lanes)
        width = 8 * size_of(short)
        fills = shift == ">>" and short.startswith("i")
        if lanes == 1:
            inside, other = f"({count})b < {width}", f"a >> {width - 1}" if fills else "0"
            return self._function(
                type_, name, f"{type_} a, {type_} b", f"return {inside} ? a {shift} b : {other};"
            )
        # where it is false, the mask of the comparison is 0, and `~mask & (width - 1)` shifts as far as can be
        by = f"(({type_})b & m) | (~m & {width - 1})" if fills else f"({type_})b & m"
        shifted = f"a {shift} (({by}))"
        result = shifted if fills else f"({shifted}) & m"
        mask = f"{type_} m = ({type_})(({count})b < {width});"
        return self._function(type_, name, f"{type_} a, {type_} b", f"{mask} return {result};")

    # -- fused multiply-add: the compilers do not contract (-ffp-contract=off) and have no common name for it --

    def _fma(self, name: str, short: str, lanes: int) -> str:
        type_ = self._v(short, lanes)
        body = self._fma_body(short, type_, lanes)
        return self._function(type_, name, f"{type_} a, {type_} b, {type_} c", body)

    def _fma_body(self, short: str, type_: str, lanes: int) -> str:
        one = "__builtin_fmaf" if short == "f32" else "__builtin_fma"
        suffix, size = "ps" if short == "f32" else "pd", size_of(short) * lanes
        if lanes == 1:
            return f"return {one}(a, b, c);"
        if size == 64 and self._features.isa == "avx512":
            # all lanes, current rounding
            return f"return __builtin_ia32_vfmadd{suffix}512_mask(a, b, c, -1, 4);"
        if size in (16, 32) and self._features.isa in ("avx2", "avx512"):
            return f"return __builtin_ia32_vfmadd{suffix}{'256' if size == 32 else ''}(a, b, c);"
        if size > 16:
            return self._fma_of_halves(short, type_, lanes)
        return f"{type_} r; {_loop(lanes, f'r[q] = {one}(a[q], b[q], c[q]);')} return r;"

    def _fma_of_halves(self, short: str, type_: str, lanes: int) -> str:
        half = lanes // 2
        low, high = (", ".join(map(str, range(start, start + half))) for start in (0, half))
        part = "__builtin_shufflevector({0}, {0}, {1})"
        halves = [
            self.call("fma", short, half, *(part.format(value, chosen) for value in "abc"))
            if half > 1
            else self.call("splat", short, 1, self.call("fma", short, 1, *(f"{v}[{chosen}]" for v in "abc")))
            for chosen in (low, high)
        ]
        return f"return ({type_})__builtin_shufflevector({halves[0]}, {halves[1]}, {_counting(lanes)});"

    # -- conversions ------------------------------------------------------------------------------------------

    def convert(self, short: str, to: str, lanes: int, value: str) -> str:
        """`value` of type `short` as `to`."""
        if short == to:
            return value
        if to == "b8":
            zero = "0" if lanes == 1 else self.call("splat", short, lanes, "0")
            return self.call("ne", short, lanes, value, zero)
        if is_float(short) and not is_float(to):
            return self._float_to_int(short, to, lanes, value)
        type_ = self._v(to, lanes)
        return f"({type_}){value}" if lanes == 1 else f"__builtin_convertvector({value}, {type_})"

    def _float_to_int(self, short: str, to: str, lanes: int, value: str) -> str:
        self.type(short)
        self.type(to)
        dtype, source = DTYPE[to], DTYPE[short]
        low, high = constant(dtype, dtype.low), constant(dtype, dtype.high)
        top, bottom = constant(source, float(dtype.high + 1)), constant(source, float(dtype.low))
        body = f"return a >= {top} ? {high} : a <= {bottom} ? {low} : a == a ? ({to})a : 0;"
        one = self._define(f"{to}_of_{short}", self._function(to, f"{to}_of_{short}", f"{short} a", body))
        if lanes == 1:
            return f"{one}({value})"
        taken, type_, name = self._v(short, lanes), self._v(to, lanes), f"{to}_of_{short}x{lanes}"
        body = f"{type_} r; {_loop(lanes, f'r[q] = {one}(a[q]);')} return r;"
        return f"{self._define(name, self._function(type_, name, f'{taken} a', body))}({value})"

    def reinterpret(self, short: str, to: str, lanes: int, value: str) -> str:
        """The bits of `value` as another type of the same size."""
        type_ = self._v(to, lanes)
        if lanes > 1 or (not is_float(short) and not is_float(to)):
            return f"({type_}){value}"
        self.type(short)
        name = f"{to}_bits_of_{short}"
        body = f"{to} r; __builtin_memcpy(&r, &a, sizeof r); return r;"
        return f"{self._define(name, self._function(to, name, f'{short} a', body))}({value})"

    # -- memory -----------------------------------------------------------------------------------------------

    def _load(self, name: str, short: str, lanes: int) -> str:
        """The first n lanes from memory, 0 in the others; nothing behind them is touched."""
        type_ = self._v(short, lanes)
        native = self._native_mask(short, lanes)
        body = f"{type_} v = {{0}}; {_loop(lanes, 'if (q < n) v[q] = p[q];')} return v;"
        if native:
            suffix, vector = _native(short, lanes)
            self._v(suffix, lanes)
            if native == "avx512":
                body = f"return ({type_})__builtin_ia32_loadu{vector}512_mask((const void *)p, ({suffix}x{lanes}){{0}}, {_mask(lanes)});"
            else:
                body = f"return ({type_})__builtin_ia32_maskload{vector}256((const void *)p, {self._lane_mask(short, lanes)});"
        return self._function(type_, name, f"const {short} *p, i64 n", body)

    def _store(self, name: str, short: str, lanes: int) -> str:
        """The first n lanes to memory."""
        native = self._native_mask(short, lanes)
        body = _loop(lanes, "if (q < n) p[q] = v[q];")
        if native:
            suffix, vector = _native(short, lanes)
            self._v(suffix, lanes)
            value = f"({suffix}x{lanes})v"
            if native == "avx512":
                body = f"__builtin_ia32_storeu{vector}512_mask((void *)p, {value}, {_mask(lanes)});"
            else:
                body = f"__builtin_ia32_maskstore{vector}256((void *)p, {self._lane_mask(short, lanes)}, {value});"
        return self._function("void", name, f"{short} *p, {self._v(short, lanes)} v, i64 n", body)

    def _load_where(self, name: str, short: str, lanes: int) -> str:
        """The lanes where m from memory, 0 in the others, which are not touched."""
        type_, bools = self._v(short, lanes), self._v("b8", lanes)
        body = f"{type_} v = {{0}}; {_loop(lanes, 'if (m[q]) v[q] = p[q];')} return v;"
        return self._function(type_, name, f"const {short} *p, {bools} m", body)

    def _store_where(self, name: str, short: str, lanes: int) -> str:
        """The lanes where m to memory."""
        type_, bools = self._v(short, lanes), self._v("b8", lanes)
        body = _loop(lanes, "if (m[q]) p[q] = v[q];")
        return self._function("void", name, f"{short} *p, {type_} v, {bools} m", body)

    def _native_mask(self, short: str, lanes: int) -> str:
        """The instruction set that has masked access to such a vector; "" if none."""
        self.type("i64")
        size = size_of(short)
        if size < 4 or lanes * size not in (32, 64):
            return ""
        wanted = "avx512" if lanes * size == 64 else "avx2"
        return wanted if self._features.isa in (wanted, "avx512") else ""

    def _lane_mask(self, short: str, lanes: int) -> str:
        whole = signed(short)
        type_ = self._v(whole, lanes)
        count = self.call("splat", whole, lanes, f"n > {lanes} ? {lanes} : n < 0 ? 0 : ({whole})n")
        return f"(({type_}){{{_counting(lanes)}}} < {count})"

    def _first(self, name: str, short: str, lanes: int) -> str:
        """Bools: true in the first n lanes."""
        self.type("i64")
        bools = self._v("b8", lanes)
        count = f"(b8)(n > {lanes} ? {lanes} : n < 0 ? 0 : n)"
        compared = f"({bools}){{{_counting(lanes)}}} < {self.call('splat', 'b8', lanes, count)}"
        return self._function(bools, name, "i64 n", f"return ({bools})({compared}) & 1;")


def _libm(op: str, short: str) -> str:
    return f"__builtin_{op}{'f' if short == 'f32' else ''}"


def _whole_division(op: str, short: str) -> str:
    if short.startswith("u"):
        return f"return b == 0 ? 0 : a {'/' if op == 'idiv' else '%'} b;"
    # b == -1 apart: INT_MIN / -1 traps; -a wraps as it should
    if op == "idiv":
        return f"if (b == 0) return 0; if (b == -1) return -a; {short} q = a / b; return q - ((a % b != 0) & ((a < 0) != (b < 0)));"
    return f"if (b == 0 || b == -1) return 0; {short} r = a % b; return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;"


def _native(short: str, lanes: int) -> tuple[str, str]:
    """The float type of a vector's element width, and its letters in the names of instructions."""
    return ("f32", "ps") if size_of(short) == 4 else ("f64", "pd")


def _counting(lanes: int) -> str:
    return ", ".join(map(str, range(lanes)))


def _loop(lanes: int, statement: str) -> str:
    return f"for (int q = 0; q < {lanes}; q++) {statement}"


def _mask(lanes: int) -> str:
    full = (1 << lanes) - 1
    return f"n >= {lanes} ? {full} : n <= 0 ? 0 : (1 << n) - 1"
