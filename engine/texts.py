"""A candidate as text: the full-shape kernel and the shrunk one as the compiler reads them, and the first as C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.ir import UOp
from engine.kernel import Kernel
from engine.opts import Schedule
from engine.pipeline import Rendered, compile_source
from engine.render.c import CRenderer
from engine.render.language import Renderer
from engine.target import Target
from engine.toolchain import Compiler, compile, compiler_of, renderer_of

FULL, SMALL = "kernel", "kernel_small"


@dataclass(frozen=True)
class Texts:
    """The two kernels rendered, and what people are shown of the first: its C."""

    full: Rendered
    small: Rendered
    shown: str


@dataclass(frozen=True)
class Recipe:
    """What every candidate of one kernel is made with. Without a renderer it is that of the target's compiler."""

    kernel: Kernel
    small: Kernel
    target: Target
    directory: Path
    renderer: Renderer | None = None

    def texts(self, schedule: Schedule) -> Texts:
        """Both kernels under a schedule. InvalidGraph if it does not fit; VerifyError and CompileError are our bugs."""
        shown = _Shown(self.target)
        renderer = self.renderer or shown
        full, small = (
            compile_source(kernel, schedule, renderer, self.target.features, name)
            for kernel, name in ((self.kernel, FULL), (self.small, SMALL))
        )
        return Texts(full, small, "".join(shown.texts) or full.source)

    def compile(self, texts: Texts, timeout_s: float) -> tuple[Path, Path]:
        """The files of the two kernels; a C compiler, which is slow to start, makes one of both. CompileError."""
        sources = [texts.full.source, texts.small.source]
        if compiler_of(self.target) is Compiler.C:
            sources = ["\n".join(sources)] * 2
        full, small = (
            compile(source, self.target, self.directory, timeout_s=timeout_s) for source in sources
        )
        return full, small


@dataclass
class _Shown:
    """The renderer of a target that keeps the C of what it renders for another language: of the full kernel's phases."""

    target: Target
    texts: list[str] = field(default_factory=list)

    def render(self, linear: Sequence[UOp], name: str) -> str:
        """See `Renderer`."""
        if not name.startswith(SMALL) and compiler_of(self.target) is not Compiler.C:
            self.texts.append(CRenderer(self.target.features).render(linear, name))
        return renderer_of(self.target).render(linear, name)
