"""KEEP: what one pass over a row computes and later ones would compute again."""

from __future__ import annotations

import numpy as np
import pytest

from engine import heuristic
from engine.errors import IllegalOpt
from engine.ir import toposort
from engine.keeps import keepables
from engine.kernel import Kernel
from engine.model import estimate
from engine.ops import Op
from engine.opts import Opt, OptKind, RangeType, Schedule, schedule_from_json, schedule_to_json
from engine.pipeline import compile_source
from engine.programs import random_inputs
from engine.render.c import CRenderer
from engine.runtime.interp import evaluate
from engine.runtime.llvm import LlvmRuntime, detect
from engine.schedule import replay
from engine.target import FEATURES
from tests.engine.sample_kernels import SAMPLES
from tests.engine.scheduling import KERNELS
from tests.engine.test_rows import BIG, softmax

KEEP = Opt(OptKind.KEEP, "r1", 0, 0)
PASSES: tuple[Schedule, ...] = (
    (),
    (Opt(OptKind.VEC, "out", 1, 16),),
    (Opt(OptKind.VEC, "r1", 0, 8), Opt(OptKind.UNROLL, "r1", 0, 3)),
    (Opt(OptKind.VEC, "out", 1, 8), Opt(OptKind.VEC, "r1", 0, 16), Opt(OptKind.UPCAST, "out", 0, 3)),
    (Opt(OptKind.UPCAST, "out", 1, 5), Opt(OptKind.THREAD, "out", 0, 3), Opt(OptKind.SPLIT, "r1", 0, 4)),
)


def kept(name: str) -> dict[str, tuple[Op, list[str]]]:
    return {key: (value.node.op, list(value.twins)) for key, value in keepables(KERNELS[name]).items()}


def test_what_two_passes_compute_alike_may_be_kept() -> None:
    assert kept("softmax of rows") == {"r1": (Op.EXP, ["out"])}
    assert kept("softmax of columns") == {"r1": (Op.EXP, ["out"])}
    assert kept("log softmax of the last of three axes") == {"r1": (Op.SUB, ["out"])}
    assert kept("layer norm") == {"r1": (Op.SUB, ["out"])}
    assert kept("normalised") == {"r0": (Op.ADD, ["out"])}


@pytest.mark.parametrize("name", ["gemm", "rows and columns", "rms norm in bfloat16", "sum of exponentials"])
def test_other_kernels_have_nothing_to_keep(name: str) -> None:
    ops = {op for op, _ in kept(name).values()}
    assert ops <= {Op.CAST}  # a bfloat16 that is read as a float32


def test_what_may_not_be_kept_is_refused() -> None:
    with pytest.raises(IllegalOpt, match="r0 computes nothing that is computed again"):
        replay(softmax(4, 8), (Opt(OptKind.KEEP, "r0", 0, 0),))
    with pytest.raises(IllegalOpt, match="kept already"):
        replay(softmax(4, 8), (KEEP, KEEP))
    with pytest.raises(IllegalOpt, match="must be 0"):
        replay(softmax(4, 8), (Opt(OptKind.KEEP, "r1", 0, 2),))
    with pytest.raises(IllegalOpt, match="64 MiB"):
        replay(softmax(2, 1 << 25), (KEEP,))
    split = Opt(OptKind.SPLIT, "r0", 0, 4, RangeType.LOOP)
    with pytest.raises(IllegalOpt, match="partial results"):
        replay(KERNELS["normalised"], (split, Opt(OptKind.KEEP, "r0", 0, 0)))


def test_rows_lie_in_scratch_memory_as_long_as_the_passes_reach() -> None:
    assert replay(softmax(4, 100), ()).scratch == 0
    assert replay(softmax(4, 100), (KEEP,)).scratch == 448  # 400 bytes in lines of 64
    ragged = (KEEP, Opt(OptKind.VEC, "out", 1, 16), Opt(OptKind.UPCAST, "out", 1, 8))
    assert replay(softmax(4, 100), ragged).scratch == 128 * 4
    assert replay(softmax(4, 100), (*ragged, Opt(OptKind.UPCAST, "out", 0, 2))).scratch == 2 * 128 * 4
    assert schedule_from_json(schedule_to_json(ragged)) == ragged


@pytest.mark.parametrize("schedule", PASSES, ids=str)
@pytest.mark.parametrize("shape", [(5, 37), (4, 32), (1, 7), (3, 2)])
def test_a_kernel_that_keeps_computes_the_same(shape: tuple[int, int], schedule: Schedule) -> None:
    kernel = softmax(*shape)
    axes = {(axis.target, axis.index) for axis in replay(kernel, ()).axes}
    legal = tuple(opt for opt in schedule if (opt.target, opt.axis) in axes)
    inputs = random_inputs(kernel, seed=2)
    found = LlvmRuntime(detect()).prepare(kernel, (*legal, KEEP), threads=2)(inputs)
    np.testing.assert_allclose(found, evaluate(kernel, inputs), rtol=2e-6, atol=1e-9)


def test_lanes_that_are_rows_keep_one_each() -> None:
    kernel = KERNELS["softmax of columns"]
    lanes = (Opt(OptKind.VEC, "out", 1, 8), Opt(OptKind.UPCAST, "out", 1, 2), Opt(OptKind.UNROLL, "r1", 0, 4))
    assert replay(kernel, (*lanes, KEEP)).scratch == 20 * 16 * 4
    inputs = random_inputs(kernel, seed=2)
    found = LlvmRuntime(detect()).prepare(kernel, (*lanes, KEEP))(inputs)
    np.testing.assert_allclose(found, evaluate(kernel, inputs), rtol=2e-6, atol=1e-9)


def test_the_function_is_computed_once() -> None:
    features = FEATURES["avx2"]

    def exponentials(*opts: Opt) -> int:
        source = compile_source(softmax(4, 32), opts, CRenderer(features), features).source
        return source.count("0x1.715476p+0f")  # 1 / ln 2

    assert exponentials() == 2
    assert exponentials(KEEP) == 1


def test_the_heuristic_keeps_functions_and_no_differences() -> None:
    def keeps(kernel: Kernel) -> list[str]:
        return [opt.target for opt in heuristic.schedule(kernel, BIG) if opt.kind is OptKind.KEEP]

    assert keeps(softmax(64, 1024)) == ["r1"]
    assert keeps(KERNELS["layer norm"]) == keeps(KERNELS["log softmax of the last of three axes"]) == []
    assert keeps(SAMPLES["gemm"]) == []


def test_the_model_counts_what_is_kept_once() -> None:
    kernel = softmax(4096, 1024)
    lanes = tuple(Opt(OptKind.VEC, target, axis, 16) for target, axis in (("r0", 0), ("r1", 0), ("out", 1)))
    assert estimate(kernel, replay(kernel, (*lanes, KEEP)), BIG) < 0.8 * estimate(
        kernel, replay(kernel, lanes), BIG
    )
    assert any(node.op is Op.EXP for node in toposort(kernel.output))
