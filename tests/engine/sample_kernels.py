"""Small ragged kernels of many forms, random legal schedules for them, and many compiled at once to be compared."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from engine import compiler
from engine import dtype as dt
from engine.build import broadcast, cast, const, elementwise, expand, matmul, param, permute, reduce, reshape
from engine.dtype import DType
from engine.errors import IllegalOpt
from engine.indexing import body
from engine.ir import UOp
from engine.kernel import Kernel
from engine.memory import ALIGNMENT
from engine.ops import Op
from engine.opts import TARGET_OUT, Opt, OptKind, RangeType, Schedule
from engine.pipeline import Rendered, compile_source
from engine.ranges import Axis
from engine.render.c import CRenderer
from engine.runtime.cpu import Program, load
from engine.runtime.interp import evaluate
from engine.schedule import replay
from engine.shapes import shape_of
from engine.target import Target

Array = np.ndarray[Any, np.dtype[Any]]
# Register elements of a random schedule: more would only take the C compiler longer.
MAX_EXPANDED = 16
BATCH = 30  # kernels in one file
CANARY = 0xA5
FLOAT, INT, BOOL = dt.float32, dt.int32, dt.bool_


def _f(slot: int, *shape: int) -> UOp:
    return param(slot, shape, FLOAT)


def _unary(op: Op, x: UOp) -> UOp:
    return elementwise(op, x)


def _like(value: float, x: UOp) -> UOp:
    return const(value, x.dtype, shape_of(x))


def _relu_bias() -> UOp:
    product = matmul(_f(0, 13, 21), _f(1, 21, 19))
    biased = elementwise(Op.ADD, product, broadcast(_f(2, 19), (13, 19)))
    return elementwise(Op.MAX, biased, _like(0.0, biased))


def _normalised() -> UOp:
    """x / sum(x): the total is read by all elements of a row, x before and after the reduce."""
    x = elementwise(Op.ADD, elementwise(Op.MUL, _f(0, 11, 37), _f(0, 11, 37)), const(0.5, FLOAT, (11, 37)))
    total = expand(reshape(reduce(Op.ADD, x, (1,)), (11, 1)), (11, 37))
    return elementwise(Op.DIV, x, total)


def _softmax() -> UOp:
    """Two reduces, of which one reads the other, and both are read by all elements of their row."""
    x = _f(0, 10, 37)
    top = expand(reshape(reduce(Op.MAX, x, (1,)), (10, 1)), (10, 37))
    powers = _unary(Op.EXP, elementwise(Op.SUB, x, top))
    return elementwise(Op.DIV, powers, expand(reshape(reduce(Op.ADD, powers, (1,)), (10, 1)), (10, 37)))


def _symmetric() -> UOp:
    """c + c.T: the reduce is read at two indices."""
    product = matmul(_f(0, 18, 7), _f(1, 7, 18))
    return elementwise(Op.ADD, product, permute(product, (1, 0)))


def _divisions(op: Op, dtype: DType) -> UOp:
    a, b = param(0, (5, 33), dtype), broadcast(param(1, (33,), dtype), (5, 33))
    return elementwise(op, a, b)


def _choice() -> UOp:
    a, b = _f(0, 7, 35), permute(_f(1, 35, 7), (1, 0))
    return elementwise(Op.WHERE, elementwise(Op.LT, a, b), elementwise(Op.MUL, a, b), _unary(Op.NEG, b))


def _logic() -> UOp:
    a, b = param(0, (6, 21), BOOL), broadcast(param(1, (21,), BOOL), (6, 21))
    both = elementwise(Op.AND, a, _unary(Op.NOT, b))
    return elementwise(Op.XOR, both, elementwise(Op.EQ, a, b))


def _functions() -> UOp:
    x = _f(0, 3, 29)
    y = _unary(Op.EXP, _unary(Op.SIN, x))
    return elementwise(Op.ADD, _unary(Op.LOG, y), _unary(Op.SQRT, elementwise(Op.MUL, x, x)))


SAMPLES: dict[str, Kernel] = {
    name: Kernel(output)
    for name, output in {
        "gemm": matmul(_f(0, 21, 23), _f(1, 23, 37)),
        "gemm of a transpose": matmul(permute(_f(0, 17, 9), (1, 0)), _f(1, 17, 33)),
        "gemm by a transpose": matmul(_f(0, 9, 35), permute(_f(1, 18, 35), (1, 0))),
        "gemm, bias, relu": _relu_bias(),
        "gemm of one row": matmul(_f(0, 1, 31), _f(1, 31, 20)),
        "batched gemm": matmul(_f(0, 3, 5, 17), _f(1, 3, 17, 18)),
        "gemm of integers": matmul(param(0, (9, 19), INT), param(1, (19, 21), INT)),
        "symmetric": _symmetric(),
        "normalised": _normalised(),
        "softmax": _softmax(),
        "sum of rows": reduce(Op.ADD, _f(0, 13, 71), (1,)),
        "sum of columns": reduce(Op.ADD, _f(0, 41, 19), (0,)),
        "sum of all": reduce(Op.ADD, _f(0, 13, 17), (0, 1)),
        "sum of integers": reduce(Op.ADD, cast(param(0, (7, 45), INT), dt.int64), (1,)),
        "sum of bools": reduce(Op.ADD, cast(param(0, (5, 43), BOOL), dt.int64), (1,)),
        "inner and outer axes": reduce(Op.ADD, _f(0, 5, 6, 7, 18), (0, 2)),
        "max": reduce(Op.MAX, _f(0, 6, 50), (1,)),
        "min of columns": reduce(Op.MIN, _f(0, 23, 20), (0,)),
        "product": reduce(Op.MUL, elementwise(Op.ADD, _f(0, 4, 19), const(1.0, FLOAT, (4, 19))), (1,)),
        "mean of squares": elementwise(
            Op.MUL,
            reduce(Op.ADD, elementwise(Op.MUL, _f(0, 9, 33), _f(0, 9, 33)), (1,)),
            const(1 / 33, FLOAT, (9,)),
        ),
        "any is positive": elementwise(Op.LT, const(0.0, FLOAT, (8,)), reduce(Op.MAX, _f(0, 8, 21), (1,))),
        "copy": elementwise(Op.ADD, _f(0, 15, 39), const(0.0, FLOAT, (15, 39))),
        "transpose": permute(_f(0, 21, 34), (1, 0)),
        "axes turned": permute(_f(0, 4, 5, 18), (2, 0, 1)),
        "reshaped": reshape(permute(_f(0, 6, 20), (1, 0)), (8, 15)),
        "reduced after a reshape": reduce(Op.ADD, reshape(permute(_f(0, 12, 10), (1, 0)), (8, 15)), (1,)),
        "outer product": elementwise(
            Op.MUL, broadcast(reshape(_f(0, 11), (11, 1)), (11, 19)), broadcast(_f(1, 19), (11, 19))
        ),
        "choice": _choice(),
        "logic": _logic(),
        "functions": _functions(),
        "floor division": _divisions(Op.IDIV, INT),
        "remainder": _divisions(Op.MOD, INT),
        "wide floor division": _divisions(Op.IDIV, dt.int64),
        "wide remainder": _divisions(Op.MOD, dt.int64),
        "float to int": cast(_f(0, 3, 41), INT),
        "int to float": cast(param(0, (3, 41), INT), FLOAT),
        "float to bool": cast(_f(0, 37), BOOL),
        "gemm of bfloat16": matmul(param(0, (9, 17), dt.bfloat16), param(1, (17, 21), dt.bfloat16)),
        "gemm of doubles": matmul(param(0, (9, 17), dt.float64), param(1, (17, 21), dt.float64)),
        "gemm of small integers": matmul(param(0, (9, 19), dt.int16), param(1, (19, 21), dt.int16)),
        "sum of halves": reduce(Op.ADD, cast(param(0, (7, 45), dt.float16), FLOAT), (1,)),
        "max of bytes": reduce(Op.MAX, param(0, (7, 45), dt.uint8), (1,)),
        "float to float8": cast(_f(0, 3, 41), dt.float8_e4m3fn),
        "narrowed": cast(param(0, (3, 41), INT), dt.int16),
        "scalar": elementwise(Op.MUL, _f(0), _f(1)),
        "scalar of an array": reduce(Op.MAX, _f(0, 45), (0,)),
        "empty": elementwise(Op.ADD, _f(0, 0, 7), _f(1, 0, 7)),
        "sum of nothing": reduce(Op.ADD, _f(0, 5, 0), (1,)),
    }.items()
}


def inputs_of(kernel: Kernel, seed: int) -> list[Array]:
    """Arrays that fit the kernel: normal floats, small integers with zeros and extremes, bools."""
    rng = np.random.default_rng(seed)
    return [_array(rng, node.dtype, node.arg[1]) for node in kernel.params]


def _array(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Array:
    if dtype.is_float:
        return rng.standard_normal(shape, dtype=np.float32).astype(dtype.numpy)
    if dtype is BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    values = rng.integers(-5, 6, shape).astype(dtype.numpy)
    extreme = np.iinfo(dtype.numpy).min
    return np.where(rng.random(shape) < 0.05, extreme, values).astype(dtype.numpy)


def random_schedule(kernel: Kernel, rng: random.Random, length: int = 12) -> Schedule:
    """A legal schedule of up to `length` opts, each drawn at random and kept if it is legal."""
    schedule: Schedule = ()
    axes = body(kernel).axes
    for _ in range(length if axes else 0):
        longer = (
            *schedule,
            _random_other(rng) if rng.random() < 0.25 else _random_opt(rng.choice(axes), rng),
        )
        try:
            leaves = replay(kernel, longer).of_type(RangeType.UPCAST, RangeType.UNROLL)
        except IllegalOpt:
            continue
        if prod(leaf.extent for leaf in leaves) <= MAX_EXPANDED:
            schedule = longer
    return schedule


def _random_opt(axis: Axis, rng: random.Random) -> Opt:
    register = OptKind.UNROLL if axis.reduce else OptKind.UPCAST
    shared = OptKind.GROUP if axis.reduce and rng.random() < 0.5 else OptKind.THREAD
    kind = rng.choice([OptKind.SPLIT, OptKind.REORDER, register, OptKind.VEC, shared])
    if kind is OptKind.REORDER:
        return Opt(kind, TARGET_OUT, rng.randrange(3), rng.randrange(1, 5))
    amount = rng.choice([2, 4, 8, 16] if kind is OptKind.VEC else [2, 3, 4, 5, 6])
    type_ = rng.choice([RangeType.LOOP, RangeType.REDUCE]) if kind is OptKind.SPLIT else None
    return Opt(kind, axis.target, axis.index, amount, type_)


def _random_other(rng: random.Random) -> Opt:
    if rng.random() < 0.3:
        return Opt(rng.choice([OptKind.STREAM, OptKind.PREFETCH]), TARGET_OUT, 0, 0)
    if rng.random() < 0.2:
        return Opt(OptKind.KEEP, rng.choice(["r0", "r1"]), 0, 0)
    if rng.random() < 0.3:
        return Opt(OptKind.PAD, rng.choice([TARGET_OUT, "r0"]), rng.randrange(3), 0)
    return Opt(OptKind.STAGE, rng.choice([TARGET_OUT, "r0", "r1"]), rng.randrange(3), rng.randrange(5))


@dataclass(frozen=True)
class Case:
    """A kernel with a schedule, to be compiled with others."""

    name: str
    kernel: Kernel
    schedule: Schedule


def mismatches(cases: Sequence[Case], target: Target, directory: Path, level: str = "-O1") -> list[str]:
    """Compile the cases into a few files, run each, and name those whose output is wrong or not contained."""
    batches = [cases[start : start + BATCH] for start in range(0, len(cases), BATCH)]
    with ThreadPoolExecutor(2) as pool:
        built = pool.map(lambda batch: _compile_all(batch, target, directory, level), batches)
        return [
            text
            for batch, (path, rendered) in zip(batches, built, strict=True)
            for case, one in zip(batch, rendered, strict=True)
            if (text := _mismatch(case, path, one))
        ]


def _compile_all(
    cases: Sequence[Case], target: Target, directory: Path, level: str
) -> tuple[Path, list[Rendered]]:
    renderer = CRenderer(target.features)
    rendered = [
        compile_source(case.kernel, case.schedule, renderer, target.features, f"kernel_{number}")
        for number, case in enumerate(cases)
    ]
    source = "".join(one.source for one in rendered)
    return compiler.compile(source, target, directory, level=level), rendered


def _mismatch(case: Case, path: Path, rendered: Rendered) -> str:
    program = load(path, rendered.entry, combine=rendered.combine.entry if rendered.combine else None)
    return contained(case, rendered, program)


def contained(case: Case, rendered: Rendered, program: Program) -> str:
    """Run a case tile by tile, as threads do it; what is wrong with its output, or ""."""
    memory, output = poisoned(shape_of(case.kernel.output), case.kernel.dtype)
    inputs = inputs_of(case.kernel, seed=1)
    scratch, partials = (np.full(size, 0xFF, np.uint8) for size in (rendered.scratch, rendered.partials))
    second = rendered.combine
    _run_tiles(program, rendered.tiles, [partials if second else output, *inputs, scratch])
    if second and program.combine:
        _run_tiles(program.combine, second.tiles, [output, *inputs, partials])
    text = f"{case.name}: {' '.join(map(str, case.schedule))}"
    if (memory[:ALIGNMENT] != CANARY).any() or (memory[ALIGNMENT + output.nbytes :] != CANARY).any():
        return f"{text}: wrote outside its output"
    return "" if _is_right(output, evaluate(case.kernel, inputs), case.kernel.dtype) else text


def _run_tiles(program: Program, tiles: int, arrays: Sequence[Array]) -> None:
    pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    for first in range(tiles):
        program.function(pointers, first, first + 1)


def _is_right(got: Array, wanted: Array, dtype: DType) -> bool:
    if not dtype.is_float:
        return np.array_equal(got, wanted)
    near = max(2e-5, 8 * 2.0**-dtype.mantissa)  # partial sums of small floats wait in the output, rounded
    with np.errstate(all="ignore"):
        a, b = got.astype(np.float64), wanted.astype(np.float64)
    return np.allclose(a, b, rtol=near, atol=near, equal_nan=True)


def poisoned(shape: tuple[int, ...], dtype: DType) -> tuple[Array, Array]:
    """(bytes, array): an array of bad values (NaN for floats) with canaries before and behind it."""
    size = prod(shape) * dtype.itemsize
    memory = np.full(size + 2 * ALIGNMENT, CANARY, np.uint8)
    array = memory[ALIGNMENT : ALIGNMENT + size].view(dtype.numpy).reshape(shape)
    array.fill(np.nan if dtype.is_float else 1)
    return memory, array


def cases_of(schedules_each: int, seed: int) -> list[Case]:
    """Every sample unscheduled and with random schedules."""
    rng = random.Random(seed)
    found = [Case(name, kernel, ()) for name, kernel in SAMPLES.items()]
    for case in list(found):
        for _ in range(schedules_each):
            found.append(replace(case, schedule=random_schedule(case.kernel, rng)))
    return found
