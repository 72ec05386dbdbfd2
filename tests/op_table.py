"""The table of ops × dtypes × backends in docs/ops.md, made by running each.

    python -m tests.op_table          writes docs/ops.md

A backend runs an op on all combinations of a dtype's special values (tests.exact) and must give what the interpreter
gives: bit for bit, but for functions and sums, which have the error bounds of tests.reference. The interpreter itself
must give what NumPy does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import build, device
from engine import dtype as dt
from engine.build import const, elementwise, param
from engine.dtype import DTYPES, DType
from engine.errors import EngineError
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import COMPARE, CONVERSIONS, ELEMENTWISE, REDUCERS, SCATTERS, UNARY, Op
from engine.runtime.interp import evaluate
from engine.spec import Level, problem
from tests.exact import special_values
from tests.growth import Array
from tests.reference import by_numpy

PATH = Path(__file__).parent.parent / "docs" / "ops.md"
# Letter in the table → device. INTERP is held against NumPy, the others against INTERP.
BACKENDS = {"I": "INTERP", "L": "CPU:LLVM", "C": "CPU:C"}
Key = tuple[str, str, str]  # op, dtype, dtype it gives
Results = dict[str, dict[Key, bool]]  # letter → where the backend is right
# What is rounded more than once, or by the library: within the bounds of tests.reference.
BOUNDED = frozenset({Op.EXP, Op.LOG, Op.SIN, Op.REDUCE, Op.SCATTER, Op.FOLD})


@dataclass(frozen=True)
class Case:
    """One op on one dtype: the kernel, its inputs. CAST and BITCAST are told apart by the dtype they give."""

    op: str
    dtype: DType
    node: UOp
    inputs: tuple[Array, ...]
    gives: DType

    @property
    def key(self) -> Key:
        """What tells it from the others."""
        return self.op, self.dtype.name, self.gives.name


def cases() -> Iterator[Case]:
    """Every op on every dtype that a definition allows."""
    for dtype in DTYPES.values():
        yield from (case for op in sorted(ELEMENTWISE - {Op.MULACC}) for case in _elementwise(op, dtype))
        yield from (
            _case(f"REDUCE {op}", build.reduce(op, _matrix(dtype), (1,)), dtype) for op in sorted(REDUCERS)
        )
        yield from (_case(name, make(_matrix(dtype)), dtype) for name, make in MOVES.items())
        yield from (_case(f"SCATTER {how}", _scatter(dtype, how), dtype) for how in SCATTERS)
        yield _case("FOLD", _fold(dtype), dtype)
    yield _case("IOTA", build.iota(40), dt.int64)


def _values(dtype: DType) -> Array:
    return special_values(dtype)


def _matrix(dtype: DType) -> UOp:
    n = len(_values(dtype))
    return param(0, (n, n), dtype)


def _array(node: UOp) -> Array:
    """What a PARAM is given: rows of the special values, each turned by one more; an index has its own numbers."""
    slot, shape = node.arg
    if slot == 1:
        return (np.arange(np.prod(shape)).reshape(shape) * 7 % 11 - 2).astype(node.dtype.numpy)
    values = _values(node.dtype)
    return np.stack([np.resize(np.roll(values, i), shape[1:]) for i in range(shape[0])])


def _case(op: str, node: UOp, dtype: DType) -> Case:
    return Case(op, dtype, node, tuple(_array(p) for p in Kernel(node).params), node.dtype)


def _elementwise(op: Op, dtype: DType) -> Iterator[Case]:
    values = _values(dtype)
    sides = [values] if op in UNARY or op in CONVERSIONS else [values, values]
    if op is Op.WHERE:
        sides = [np.array([False, True]), values, values[::-1].copy()]
    inputs = tuple(np.ascontiguousarray(a.ravel()) for a in np.meshgrid(*sides, indexing="ij"))
    params = tuple(param(i, a.shape, dt.from_numpy(a.dtype)) for i, a in enumerate(inputs))
    for gives in DTYPES.values() if op in CONVERSIONS else [dt.bool_ if op in COMPARE else dtype]:
        yield Case(op.value, dtype, UOp(op, gives, params), inputs, gives)


def _index(shape: tuple[int, ...]) -> UOp:
    return param(1, shape, dt.int32)


def _gather(x: UOp) -> UOp:
    n = x.arg[1][0]
    return build.gather(x, _index((5, n)), 0)


MOVES: dict[str, Callable[[UOp], UOp]] = {
    "RESHAPE": lambda x: build.reshape(x, (x.arg[1][0] * x.arg[1][1],)),
    "PERMUTE": lambda x: build.permute(x, (1, 0)),
    "EXPAND": lambda x: build.expand(
        build.reshape(x, (x.arg[1][0], 1, x.arg[1][1])), (x.arg[1][0], 3, x.arg[1][1])
    ),
    "SHRINK": lambda x: build.shrink(x, [(1, x.arg[1][0], 2), (0, x.arg[1][1] - 1, 1)]),
    "FLIP": lambda x: build.flip(x, (0, 1)),
    "PAD": lambda x: build.pad(x, [(1, 2, 0), (0, 1, 1)]),
    "GATHER": _gather,
    "CONST": lambda x: const(_values(x.dtype)[-2].item(), x.dtype, (7,)),
}


def _scatter(dtype: DType, how: str) -> UOp:
    x = _matrix(dtype)
    n = x.arg[1][0]
    updates = build.shrink(build.flip(x, (0,)), [(0, min(4, n), 1), (0, n, 1)])
    return build.scatter(x, _index((min(4, n), n)), updates, 0, how)


def _fold(dtype: DType) -> UOp:
    """The steps' elements combined by what the dtype has: a sum, or exclusive or; of 8-bit floats the last one."""
    x = _matrix(dtype)
    n = x.arg[1][0]
    zero = const(0, dtype, (n,))
    combine = {
        True: lambda a, b: b,
        False: lambda a, b: elementwise(Op.XOR if dtype is dt.bool_ else Op.ADD, a, b),
    }
    return build.fold(n, [zero], [x], lambda _, s, p: [combine[dtype.is_storage](s[0], p[0])])[0]


def is_allowed(case: Case) -> bool:
    """Does a definition have this op on this dtype?"""
    return not any(problem(node, Level.DEFINITION) for node in toposort(case.node))


def is_right(case: Case, name: str) -> bool:
    """Does the backend give what it must? An error is a no."""
    kernel = Kernel(case.node)
    wanted = by_numpy(case.node, dict(zip(kernel.params, case.inputs, strict=True)))
    defined = evaluate(kernel, case.inputs)
    try:
        got = device.get(name).run(kernel, case.inputs)
    except EngineError:
        return False
    if got.dtype != defined.dtype or got.shape != defined.shape:
        return False
    if not case.gives.is_float:
        return bool(np.array_equal(got, wanted.value if name == "INTERP" else defined))
    with np.errstate(all="ignore"):
        return _is_close(case, *(a.astype(np.float64) for a in (got, defined, wanted.error)))


def _is_close(case: Case, got: Array, defined: Array, error: Array) -> bool:
    """Equal, zeros by their sign too; or within the bound where the op has one. NaN is NaN, whichever it is."""
    same = (got == defined) & (
        (np.signbit(got) == np.signbit(defined)) | (got != 0) | (case.op in ("MAX", "MIN"))
    )
    bounded = any(node.op in BOUNDED for node in toposort(case.node))
    near = np.abs(got - defined) <= np.where(np.isfinite(error), error, 0)
    return bool((same | (np.isnan(got) & np.isnan(defined)) | (bounded & (near | (got == defined)))).all())


def results(name: str, part: int = 0, parts: int = 1) -> dict[Key, bool]:
    """Is the backend right, for all that is allowed, or for one of so many parts of it?"""
    return {c.key: is_right(c, name) for c in list(filter(is_allowed, cases()))[part::parts]}


# --------------------------------------------------------------------------------------------------------- as text

SHORT = {"bool": "bool", "float8_e4m3fn": "e4m3", "float8_e5m2": "e5m2", "bfloat16": "bf16"}
SHORTS = {
    name: SHORT.get(name, name.replace("uint", "u").replace("int", "i").replace("float", "f"))
    for name in DTYPES
}
HEAD = """# Ops

What each backend computes, generated by `python -m tests.op_table`; a test fails when this file is not what it writes.
Each letter is a backend that gives the right result on all combinations of the dtype's special values (limits, NaN,
infinities, zeros of both signs, denormals, shifts by the width and more): {letters}.
`·`: the op is not defined on that dtype (see engine/spec.py). What every op means is in engine/runtime/meaning.py.
MULACC is made by the compiler only; BUFFER, PARAM, CONTIGUOUS, DETACH, SLOPE, LEADING and ASSIGN compute nothing; HOLE and GET belong to FOLD.
"""


def render(found: Results) -> str:
    """docs/ops.md from the results of every backend, by letter."""
    letters = ", ".join(f"{letter} = {name}" for letter, name in BACKENDS.items())
    keys = list(next(iter(found.values())))
    ops = [op for op in dict.fromkeys(op for op, _, _ in keys) if op not in CONVERSIONS]
    plain = _table(
        "op", sorted(ops), lambda op, d: next((k for k in keys if k[0] == op and k[1] == d), None), found
    )
    parts = [HEAD.format(letters=letters), plain]
    for op in sorted(CONVERSIONS):
        parts += [f"## {op.value}\n\nFrom the dtype of the row to that of the column.\n"]
        parts += [_table("from", list(DTYPES), lambda a, b, op=op: (op.value, a, b), found)]  # type: ignore[misc]
    return "\n".join(parts)


def _table(corner: str, rows: list[str], key: Callable[[str, str], Key | None], found: Results) -> str:
    def cell(row: str, column: str) -> str:
        place = key(row, column)
        right = [letter for letter, each in found.items() if each.get(place)]
        return "".join(right) if any(place in each for each in found.values()) else "·"

    lines = [[corner, *SHORTS.values()], ["---"] * (1 + len(DTYPES))]
    lines += [[SHORTS.get(row, row), *(cell(row, column) or "none" for column in DTYPES)] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def parsed(text: str) -> Results:
    """The results that a file shows, by letter; what `render` has written."""
    found: Results = {letter: {} for letter in BACKENDS}
    for case in cases():
        if is_allowed(case):
            cell = _cell(text, case.key)
            for letter in BACKENDS:
                found[letter][case.key] = letter in cell
    return found


def _cell(text: str, key: Key) -> str:
    op, dtype, gives = key
    conversion = op in CONVERSIONS
    _, _, part = text.partition(f"## {op}\n" if conversion else "| op |")
    row, wanted = (SHORTS[dtype], gives) if conversion else (op, dtype)
    line = next((line for line in part.splitlines() if line.startswith(f"| {row} |")), "")
    cells = [cell.strip() for cell in line.split("|")]
    place = 2 + list(DTYPES).index(wanted)
    return cells[place] if place < len(cells) else ""


def main() -> int:
    """Write the file."""
    PATH.write_text(render({letter: results(name) for letter, name in BACKENDS.items()}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
