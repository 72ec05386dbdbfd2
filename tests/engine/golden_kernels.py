"""A few kernels whose sources are kept under tests/golden: what a change does to the code we write is then a diff.

`python -m tests.engine.golden_kernels` writes them anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engine import dtype as dt
from engine.build import cast, elementwise, gather, matmul, param, reduce
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind, Schedule
from engine.pipeline import compile_source
from engine.render.c import CRenderer
from engine.render.language import RendererFactory
from engine.render.llvm import LlvmRenderer
from engine.target import FEATURES

GOLDEN = Path(__file__).parent.parent / "golden"
RENDERERS: dict[str, RendererFactory] = {"c": CRenderer, "ll": LlvmRenderer}
KERNELS: dict[str, tuple[Kernel, Schedule]] = {
    "sum": (Kernel(reduce(Op.ADD, param(0, (64,), dt.float32), (0,))), ()),
    "gemm_tile": (
        Kernel(matmul(param(0, (6, 8), dt.float32), param(1, (8, 32), dt.float32))),
        (
            Opt(OptKind.VEC, "out", 1, 16),
            Opt(OptKind.UPCAST, "out", 0, 2),
            Opt(OptKind.THREAD, "out", 0, 3),
        ),
    ),
    "ragged_bfloat16": (
        Kernel(cast(param(0, (21,), dt.float64), dt.bfloat16)),
        (Opt(OptKind.VEC, "out", 0, 8),),
    ),
    "exponential": (
        Kernel(elementwise(Op.EXP, param(0, (21,), dt.float32))),
        (Opt(OptKind.VEC, "out", 0, 16),),
    ),
    "sum_in_parts": (
        Kernel(elementwise(Op.SQRT, reduce(Op.ADD, param(0, (301, 19), dt.float32), (0,)))),
        (Opt(OptKind.VEC, "out", 0, 16), Opt(OptKind.GROUP, "r0", 0, 4)),
    ),
    "gather": (
        Kernel(gather(param(0, (9,), dt.int8), param(1, (16,), dt.int32), 0)),
        (Opt(OptKind.VEC, "out", 0, 4),),
    ),
}


def sources() -> Iterator[tuple[Path, str]]:
    """Every golden file and what it must hold, for a CPU with AVX-512."""
    features = FEATURES["avx512"]
    for name, (kernel, schedule) in KERNELS.items():
        for ending, renderer in RENDERERS.items():
            rendered = compile_source(kernel, schedule, renderer(features), features, name)
            yield GOLDEN / f"{name}.{ending}", rendered.source


if __name__ == "__main__":
    for path, text in sources():
        path.write_text(text, encoding="utf-8")
