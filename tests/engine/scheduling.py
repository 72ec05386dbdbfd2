"""Kernels for random schedules, run in memory that shows every stray access; and faults that schedules must find."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from engine import dtype as dt
from engine import lower
from engine.build import (
    broadcast,
    cast,
    const,
    elementwise,
    expand,
    flip,
    fold,
    gather,
    iota,
    matmul,
    pad,
    param,
    permute,
    reduce,
    reshape,
)
from engine.dtype import DType
from engine.ir import UOp, substitute, toposort
from engine.kernel import Kernel
from engine.linearize import behind_after
from engine.offsets import is_lanes, number
from engine.ops import Op
from engine.opts import RangeType, Schedule
from engine.pipeline import Rendered, compile_lowered, compile_scheduled, compile_source
from engine.ranges import Leaf
from engine.runtime.cpu import Program
from engine.runtime.llvm import LlvmRuntime
from engine.schedule import Scheduled, replay
from engine.shapes import shape_of
from tests.engine.sample_kernels import random_schedule
from tests.reference import Approx, by_numpy, mismatches

Array = np.ndarray[Any, np.dtype[Any]]
GUARD = 1 << 14  # bytes before and behind every buffer
STRAY = 0xA5


def _f(slot: int, *shape: int) -> UOp:
    return param(slot, shape, dt.float32)


def _like(value: float, x: UOp) -> UOp:
    return const(value, x.dtype, shape_of(x))


def _plus(x: UOp, value: float) -> UOp:
    return elementwise(Op.ADD, x, _like(value, x))


def _products(a: UOp, b: UOp, plus: float, op: Op = Op.ADD) -> UOp:
    """Σ (a · b + plus) over k of (m, k) and (k, n): what a zero where nothing is must not enter."""
    (m, k), (_, n) = shape_of(a), shape_of(b)
    left = broadcast(reshape(a, (m, 1, k)), (m, n, k))
    right = broadcast(reshape(permute(b, (1, 0)), (1, n, k)), (m, n, k))
    return reduce(op, _plus(elementwise(Op.MUL, left, right), plus), (2,))


def _epilogue(x: UOp) -> UOp:
    biased = elementwise(Op.ADD, x, broadcast(_f(2, shape_of(x)[1]), shape_of(x)))
    return elementwise(Op.MAX, biased, _like(0.0, biased))


def _half(slot: int, *shape: int, dtype: DType = dt.bfloat16) -> UOp:
    return cast(param(slot, shape, dtype), dt.float32)


def _normalised() -> UOp:
    x = _plus(elementwise(Op.MUL, _f(0, 11, 37), _f(0, 11, 37)), 0.5)
    total = expand(reshape(reduce(Op.ADD, x, (1,)), (11, 1)), (11, 37))
    return elementwise(Op.DIV, x, total)


def _both_ways(x: UOp, axes: tuple[int, ...]) -> UOp:
    """A reduce read at two indices."""
    return elementwise(Op.SUB, x, flip(x, axes))


def _running() -> UOp:
    def body(step: UOp, states: tuple[UOp, ...], xs: tuple[UOp, ...]) -> list[UOp]:
        a, b = states
        return [elementwise(Op.ADD, b, xs[0]), elementwise(Op.MUL, a, xs[0])]

    start = param(0, (5, 19), dt.int32)
    return fold(7, [start, start], [param(1, (7, 5, 19), dt.int32)], body)[1]


def _spread(x: UOp, axis: int, n: int) -> UOp:
    """x again and again along a new axis."""
    shape = list(shape_of(x))
    shape.insert(axis, 1)
    whole = [n if i == axis else size for i, size in enumerate(shape)]
    return expand(reshape(x, tuple(shape)), tuple(whole))


def _over(op: Op, x: UOp, axis: int) -> UOp:
    """x reduced along an axis, for every element of x."""
    return _spread(reduce(op, x, (axis,)), axis, shape_of(x)[axis])


def _softmax(x: UOp, axis: int) -> UOp:
    powers = elementwise(Op.EXP, elementwise(Op.SUB, x, _over(Op.MAX, x, axis)))
    return elementwise(Op.DIV, powers, _over(Op.ADD, powers, axis))


def _log_softmax(x: UOp, axis: int) -> UOp:
    apart = elementwise(Op.SUB, x, _over(Op.MAX, x, axis))
    total = _over(Op.ADD, elementwise(Op.EXP, apart), axis)
    return elementwise(Op.SUB, apart, elementwise(Op.LOG, total))


def _deviation(x: UOp) -> UOp:
    n = shape_of(x)[1]
    squares = elementwise(Op.MUL, _over(Op.ADD, elementwise(Op.MUL, x, x), 1), _like(1 / n, x))
    return elementwise(Op.SQRT, _plus(squares, 0.125))


def _layer_norm(x: UOp, weight: UOp, bias: UOp) -> UOp:
    apart = elementwise(Op.SUB, x, elementwise(Op.MUL, _over(Op.ADD, x, 1), _like(1 / shape_of(x)[1], x)))
    scaled = elementwise(
        Op.MUL, elementwise(Op.DIV, apart, _deviation(apart)), broadcast(weight, shape_of(x))
    )
    return elementwise(Op.ADD, scaled, broadcast(bias, shape_of(x)))


def _rms_norm(x: UOp, weight: UOp) -> UOp:
    return elementwise(Op.MUL, elementwise(Op.DIV, x, _deviation(x)), broadcast(weight, shape_of(x)))


def _first_of_the_greatest(x: UOp) -> UOp:
    (m, n) = shape_of(x)
    place = broadcast(iota(n), (m, n))
    found = elementwise(Op.WHERE, elementwise(Op.EQ, x, _over(Op.MAX, x, 1)), place, _like(n, place))
    return reduce(Op.MIN, found, (1,))


def _rows_and_columns() -> UOp:
    """Each element from a total of its row and one of its column, of other matrices."""
    rows = _spread(reduce(Op.MAX, _f(0, 9, 21), (1,)), 1, 18)
    return elementwise(Op.MUL, rows, _spread(reduce(Op.ADD, _f(1, 23, 18), (0,)), 0, 9))


def _kept(x: UOp, level: str = "local") -> UOp:
    """x where a user wants it."""
    return UOp(Op.CONTIGUOUS, x.dtype, (x,), level)


def _kept_layer_norm(x: UOp, weight: UOp, bias: UOp) -> UOp:
    """With the rows, the mean, the deviation and the weights where a user wants them."""
    x = _kept(elementwise(Op.MUL, x, x))
    mean = _kept(elementwise(Op.MUL, _over(Op.ADD, x, 1), _like(1 / shape_of(x)[1], x)))
    apart = elementwise(Op.SUB, x, mean)
    scaled = elementwise(Op.DIV, apart, _kept(_deviation(apart), "register"))
    weighted = elementwise(Op.MUL, scaled, broadcast(_kept(elementwise(Op.EXP, weight)), shape_of(x)))
    return elementwise(Op.ADD, weighted, broadcast(_kept(bias), shape_of(x)))


def _kept_softmax(x: UOp) -> UOp:
    """Of columns of what is turned before and behind it is wanted kept."""
    x = permute(_kept(permute(x, (1, 0))), (1, 0))
    powers = _kept(elementwise(Op.EXP, elementwise(Op.SUB, x, _kept(_over(Op.MAX, x, 1)))))
    return elementwise(Op.DIV, powers, _over(Op.ADD, powers, 1))


def _kept_products() -> UOp:
    """A product of what is computed from several inputs, one of them in registers, and of what is kept of its sums."""
    left = elementwise(Op.MUL, _f(0, 11, 21), broadcast(_f(2, 21), (11, 21)))
    right = _kept(elementwise(Op.EXP, permute(_f(1, 18, 21), (1, 0))), "register")
    return elementwise(Op.MAX, _kept(matmul(_kept(left), right)), _like(0.0, _f(0, 11, 18)))


def _inside(x: UOp, dtype: DType) -> UOp:
    return cast(cast(x, dtype), dt.float32)


KERNELS: dict[str, Kernel] = {
    name: Kernel(output)
    for name, output in {
        "gemm": matmul(_f(0, 21, 23), _f(1, 23, 37)),
        "gemm of a transpose": matmul(permute(_f(0, 17, 9), (1, 0)), _f(1, 17, 33)),
        "gemm with bias and relu": _epilogue(matmul(_f(0, 13, 21), _f(1, 21, 19))),
        "batched gemm": matmul(_f(0, 3, 5, 17), _f(1, 3, 17, 18)),
        "gemm of integers": matmul(param(0, (9, 19), dt.int32), param(1, (19, 21), dt.int32)),
        "gemm in bfloat16": cast(matmul(_half(0, 7, 22), _half(1, 22, 19)), dt.bfloat16),
        "sum of products and one": _products(_f(0, 11, 21), _f(1, 21, 18), 1.0),
        "sum of products and one, with an epilogue": _epilogue(_products(_f(0, 9, 21), _f(1, 21, 18), 1.0)),
        "sum of products and one, in bfloat16": cast(
            _products(_half(0, 7, 21), _half(1, 21, 18), 1.0), dt.bfloat16
        ),
        "product of products and one": reduce(
            Op.MUL, _plus(elementwise(Op.MUL, _f(0, 6, 19), _like(0.1, _f(0, 6, 19))), 1.0), (1,)
        ),
        "greatest of negatives": reduce(
            Op.MAX, elementwise(Op.NEG, _plus(elementwise(Op.MUL, _f(0, 9, 41), _f(0, 9, 41)), 1.0)), (1,)
        ),
        "least of positives, by columns": reduce(Op.MIN, elementwise(Op.EXP, _f(0, 23, 20)), (0,)),
        "sum of exponentials": reduce(Op.ADD, elementwise(Op.EXP, _f(0, 13, 45)), (1,)),
        "c and c turned": elementwise(
            Op.ADD, matmul(_f(0, 18, 7), _f(1, 7, 18)), permute(matmul(_f(0, 18, 7), _f(1, 7, 18)), (1, 0))
        ),
        "sums less sums from the other end": _both_ways(_products(_f(0, 11, 13), _f(1, 13, 10), 0.5), (0,)),
        "normalised": _normalised(),
        "inner and outer axes": reduce(Op.ADD, _plus(_f(0, 5, 6, 7, 18), 1.0), (0, 2)),
        "sum of padded and one": reduce(Op.ADD, _plus(pad(_f(0, 7, 19), [(0, 0, 0), (3, 2, 1)]), 1.0), (1,)),
        "sum of gathered": reduce(
            Op.ADD, _plus(gather(_f(0, 9, 18), param(1, (13, 18), dt.int32), 0), 1.0), (0,)
        ),
        "sum after a reshape": reduce(Op.ADD, reshape(permute(_f(0, 12, 10), (1, 0)), (8, 15)), (1,)),
        "transposed halves": elementwise(
            Op.MUL, _half(0, 21, 34), permute(_half(1, 34, 21, dtype=dt.float16), (1, 0))
        ),
        "a loop over two states": _running(),
        "softmax of rows": _softmax(_f(0, 11, 37), 1),
        "softmax of columns": _softmax(_f(0, 19, 21), 0),
        "log softmax of the last of three axes": _log_softmax(_f(0, 3, 5, 19), 2),
        "layer norm": _layer_norm(_f(0, 9, 34), _f(1, 34), _f(2, 34)),
        "rms norm in bfloat16": cast(
            _rms_norm(_half(0, 7, 41), cast(param(1, (41,), dt.bfloat16), dt.float32)), dt.bfloat16
        ),
        "place of the greatest": _first_of_the_greatest(_f(0, 12, 21)),
        "sums less maxima of another length": elementwise(
            Op.SUB, reduce(Op.ADD, _f(0, 21, 18), (1,)), reduce(Op.MAX, _f(1, 21, 37), (1,))
        ),
        "rows and columns": _rows_and_columns(),
        "layer norm of what is kept": _kept_layer_norm(_f(0, 9, 34), _f(1, 34), _f(2, 34)),
        "softmax of what is kept": _kept_softmax(_f(0, 11, 37)),
        "product of what is kept": _kept_products(),
    }.items()
}
for _kernel in KERNELS.values():
    assert sorted(p.arg[0] for p in _kernel.params) == list(range(len(_kernel.params)))


def schedule_of(kernel: Kernel, rng: random.Random, least: int = 4) -> Schedule:
    """A random legal schedule of at least so many actions."""
    while True:
        found = random_schedule(kernel, rng, length=16)
        if len(found) >= least:
            return found


# ----------------------------------------------------------------------------------------------------- running


@dataclass(frozen=True)
class Problem:
    """A kernel with inputs in guarded memory, and what it must give."""

    kernel: Kernel
    inputs: tuple[Array, ...]
    wanted: Approx

    @staticmethod
    def of(kernel: Kernel, seed: int) -> Problem:
        """Random inputs: normal floats, small integers, indices of which some point nowhere."""
        rng = np.random.default_rng(seed)
        arrays = tuple(_random(rng, p.dtype, p.arg[1]) for p in kernel.params)
        wanted = by_numpy(kernel.output, dict(zip(kernel.params, arrays, strict=True)))
        return Problem(kernel, tuple(map(guarded, arrays)), wanted)

    def fault(self, rendered: Rendered, runtime: LlvmRuntime) -> str:
        """What is wrong with a rendered kernel's output, or "". Run tile by tile, as threads do it."""
        program = runtime.load(rendered)
        output = guarded(np.empty(shape_of(self.kernel.output), self.kernel.dtype.numpy))
        output.view(np.uint8).fill(0xFF)  # NaN, or -1
        scratch = guarded(np.full(rendered.scratch, 0xFF, np.uint8))
        partials = guarded(np.full(rendered.partials, 0xFF, np.uint8))
        second = rendered.combine
        _run_tiles(program, rendered.tiles, [partials if second else output, *self.inputs, scratch])
        if second and program.combine:
            _run_tiles(program.combine, second.tiles, [output, *self.inputs, partials])
        memory = _memory(output)
        if (memory[:GUARD] != STRAY).any() or (memory[GUARD + output.nbytes :] != STRAY).any():
            return "wrote outside its output"
        around = _memory(scratch)
        if (around[:GUARD] != STRAY).any() or (around[GUARD + rendered.scratch :] != STRAY).any():
            return "wrote outside its scratch memory"
        between = _memory(partials)
        if (between[:GUARD] != STRAY).any() or (between[GUARD + rendered.partials :] != STRAY).any():
            return "wrote outside the memory between its phases"
        wrong = mismatches(output, self.wanted)
        return f"{int(wrong.sum())} of {output.size} elements are wrong" if wrong.any() else ""


def _run_tiles(program: Program, tiles: int, arrays: Sequence[Array]) -> None:
    """One tile after the other, the last one first: their order must not matter."""
    pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    for tile in reversed(range(tiles)):
        program.function(pointers, tile, tile + 1)


def _random(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Array:
    if dtype.is_float:
        return rng.standard_normal(shape, dtype=np.float32).astype(dtype.numpy)
    return rng.integers(-5, 12, shape).astype(dtype.numpy)


def guarded(array: Array) -> Array:
    """A copy with GUARD bytes before and behind it that hold no usual number."""
    memory = np.full(array.nbytes + 2 * GUARD, STRAY, np.uint8)
    found = memory[GUARD : GUARD + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


def _memory(array: Array) -> Array:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


# ------------------------------------------------------------------------------------------------------- faults

# A fault compiles a schedule wrongly; None where it changes nothing.
Fault = Callable[[Kernel, Schedule, LlvmRuntime], Rendered | None]


def faultless(kernel: Kernel, schedule: Schedule, runtime: LlvmRuntime) -> Rendered:
    """As it should be."""
    return compile_source(kernel, schedule, runtime.renderer, runtime.target.features)


def ragged_inner_leaf(kernel: Kernel, schedule: Schedule, runtime: LlvmRuntime) -> Rendered | None:
    """A leaf inside another sticks out of its share: two outer steps do the same elements."""
    scheduled = replay(kernel, schedule)
    changed = _with_ragged_leaf(scheduled)
    if changed is None:
        return None
    return compile_scheduled(changed, runtime.renderer, runtime.target.features)


def _with_ragged_leaf(scheduled: Scheduled) -> Scheduled | None:
    loops = scheduled.of_type(RangeType.LOOP, RangeType.REDUCE)
    for axis in scheduled.axes if not scheduled.stages else ():  # stages are laid out over the right leaves
        leaves = sorted((leaf for leaf in loops if leaf.axis == axis), key=lambda leaf: -leaf.stride)
        if len(leaves) == len(scheduled.leaves_of(axis)) >= 2 and leaves[1].extent > 2:
            outer, inner = leaves[:2]
            stride = outer.stride - inner.stride
            ragged = replace(outer, stride=stride, extent=-(-axis.extent // stride))
            return replace(scheduled, leaves=_replaced(scheduled.leaves, outer, ragged))
    return None


def part_left_out(kernel: Kernel, schedule: Schedule, runtime: LlvmRuntime) -> Rendered | None:
    """The last part of a reduce is not computed."""
    scheduled = replay(kernel, schedule)
    group = scheduled.group
    if group is None or group.extent < 3:
        return None
    fewer = _replaced(scheduled.leaves, group, replace(group, extent=group.extent - 1))
    return compile_scheduled(replace(scheduled, leaves=fewer), runtime.renderer, runtime.target.features)


def _replaced(leaves: tuple[Leaf, ...], old: Leaf, new: Leaf) -> tuple[Leaf, ...]:
    return tuple(new if leaf is old else leaf for leaf in leaves)


def _rewriting(rewrite: Callable[[UOp], dict[UOp, UOp]]) -> Fault:
    """A fault of the lowering: nodes of the right result replaced."""

    def compile(kernel: Kernel, schedule: Schedule, runtime: LlvmRuntime) -> Rendered | None:
        scheduled = replay(kernel, schedule)
        root = lower.lower(kernel, scheduled, fma=runtime.target.features.fma)
        changed = substitute(root, rewrite(root))
        return (
            None
            if changed is root
            else compile_lowered(changed, scheduled, runtime.renderer, runtime.target.features)
        )

    return compile


def _strided_lanes(root: UOp) -> dict[UOp, UOp]:
    """Lanes that are `k` elements apart in memory, taken as if they were in a row."""
    offsets = [node.src[1] for node in toposort(root) if node.op is Op.INDEX]
    below = [node for offset in offsets for node in toposort(offset)]
    return {n: n.src[0] for n in below if n.op is Op.MUL and is_lanes(n.src[0]) and n.src[1].op is Op.CONST}


def _pads_reduced(root: UOp) -> dict[UOp, UOp]:
    """What a guarded load gives where nothing is, taken into the reduce."""
    found = {}
    for node in toposort(root):
        if node.op is Op.STORE and _is_accumulator(node.src[0]) and node.src[1].op is Op.WHERE:
            found[node] = node.replace(src=(node.src[0], node.src[1].src[1]))
    return found


def _first_iteration(root: UOp) -> dict[UOp, UOp]:
    """Partial results of a reduce's LOOP, added to what the memory happened to hold."""
    stored = {behind_after(n.src[0].src[0]) for n in toposort(root) if n.op is Op.STORE}
    found = {}
    for node in toposort(root):
        if node.op is Op.LOAD and len(node.src) == 2 and behind_after(node.src[0].src[0]) in stored:
            place = node.src[0]
            later = [n for n in toposort(place.src[2]) if n.op is Op.LT and n.src[0] is number(0)]
            valid = substitute(place.src[2], {n: const(True, dt.bool_) for n in later})
            found[node] = node.replace(src=(place.replace(src=(*place.src[:2], valid)), node.src[1]))
    return found


def _is_accumulator(place: UOp) -> bool:
    return behind_after(place.src[0]).op is Op.ACC


def _shared_accumulators(root: UOp) -> dict[UOp, UOp]:
    """The last element of an accumulator lies where its first one does."""
    found = {}
    for node in toposort(root):
        if node.op is Op.INDEX and _is_accumulator(node):
            offset, size = node.src[1], behind_after(node.src[0]).arg[1]
            lanes = next((n.arg[1] for n in toposort(offset) if is_lanes(n)), 1)
            if lanes > 1 and offset.op is Op.ADD and offset.src[0] is number(size - lanes):
                found[node] = node.replace(src=(node.src[0], offset.src[1]))
            elif size > 1 and offset is number(size - 1):
                found[node] = node.replace(src=(node.src[0], number(0)))
    return found


FAULTS: dict[str, Fault] = {
    "a ragged inner leaf": ragged_inner_leaf,
    "a part that is left out": part_left_out,
    "lanes in a row though their stride is not 1": _rewriting(_strided_lanes),
    "a zero pad that enters a reduce": _rewriting(_pads_reduced),
    "no start in the first iteration": _rewriting(_first_iteration),
    "accumulators that share memory": _rewriting(_shared_accumulators),
}


def run(problem: Problem, schedule: Schedule, runtime: LlvmRuntime, compile: Fault = faultless) -> str | None:
    """What is wrong with a schedule's output: "" if nothing, None if there was nothing to compile."""
    rendered = compile(problem.kernel, schedule, runtime)
    return None if rendered is None else problem.fault(rendered, runtime)


def describe(name: str, schedule: Schedule, fault: str) -> str:
    """A line that a person can replay."""
    return f"{name}: {fault}: {' '.join(map(str, schedule))}"


def registers(scheduled: Scheduled) -> int:
    """How many register elements a body has."""
    return prod(leaf.extent for leaf in scheduled.of_type(RangeType.UPCAST, RangeType.UNROLL))
