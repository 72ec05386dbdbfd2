"""The device NULL: everything but the hardware, for graphs too big for this machine and for looking at kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from engine.device.compiled import Kernels
from engine.device.protocol import Absent, Array
from engine.kernel import Kernel
from engine.options import Options
from engine.opts import Schedule
from engine.pipeline import compile_source
from engine.programs import Cost, cost
from engine.render.c import CRenderer
from engine.render.language import RendererFactory
from engine.render.llvm import LlvmRenderer
from engine.shapes import shape_of
from engine.target import Target, processor_target

Renderings = Callable[[Target], Callable[[Kernel, Schedule, int], "Unrun"]]


@dataclass(frozen=True, slots=True)
class Unrun:
    """A kernel that was scheduled and rendered, and is as far as it gets."""

    kernel: Kernel
    schedule: Schedule
    source: str
    cost: Cost

    def __call__(self, inputs: Sequence[Array]) -> Array:
        """Nothing, of the output's shape and dtype."""
        return Absent(shape_of(self.kernel.output), self.kernel.dtype.numpy)


@dataclass(frozen=True, slots=True)
class Count:
    """How often a kernel was launched; its flops and bytes are those of one launch."""

    kernel: Unrun
    launches: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a NULL device was asked to do: its kernels in the order of their first launch, and the totals."""

    kernels: tuple[Count, ...]

    @property
    def launches(self) -> int:
        """Launches of all kernels."""
        return sum(each.launches for each in self.kernels)

    @property
    def flops(self) -> float:
        """Arithmetic operations of all launches."""
        return sum(each.launches * each.kernel.cost.flops for each in self.kernels)

    @property
    def bytes(self) -> float:
        """Bytes that all launches read and write at least."""
        return sum(each.launches * each.kernel.cost.bytes for each in self.kernels)


def _rendered_by(renderer: RendererFactory) -> Renderings:
    def renderings(target: Target) -> Callable[[Kernel, Schedule, int], Unrun]:
        def prepare(kernel: Kernel, schedule: Schedule, threads: int) -> Unrun:
            rendered = compile_source(kernel, schedule, renderer(target.features), target.features)
            return Unrun(kernel, schedule, rendered.source, cost(kernel))

        return prepare

    return renderings


# By the part of the name behind the colon; the first is what NULL alone means.
RENDERINGS: dict[str, Renderings] = {"LLVM": _rendered_by(LlvmRenderer), "C": _rendered_by(CRenderer)}


class Null:
    """Schedules and renders kernels for this machine's CPU and counts their launches; holds no memory."""

    def __init__(self, part: str, options: Options) -> None:
        self.name = "NULL" if part == next(iter(RENDERINGS)) else f"NULL:{part}"
        target = processor_target()
        self._kernels = Kernels(self.name, target, RENDERINGS[part](target), options)
        self._launches: dict[Kernel, int] = {}
        self._lock = Lock()

    def run(self, kernel: Kernel, inputs: Sequence[Array]) -> Array:
        """An `Absent` of the output's shape. CompileError names the pass that failed and a file that shows it."""
        found = self._kernels[kernel]
        with self._lock:
            self._launches[kernel] = self._launches.get(kernel, 0) + 1
        return found(inputs)

    def prepare(self, kernel: Kernel, schedule: Schedule) -> Unrun:
        """The kernel rendered with this schedule instead of the heuristic's. CompileError as `run`."""
        return self._kernels.make(kernel, schedule)

    def report(self) -> Report:
        """What was launched since the device was made or `clear` was called."""
        with self._lock:
            launches = dict(self._launches)
        return Report(tuple(Count(self._kernels[kernel], times) for kernel, times in launches.items()))

    def clear(self) -> None:
        """Forget the launches, not the kernels."""
        with self._lock:
            self._launches.clear()
