"""Devices that compile: each kernel once, with the model's schedule, found again by its structure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, Protocol, TypeVar

from engine import wishes
from engine.device.protocol import Array
from engine.errors import CompileError
from engine.heuristic import in_tiles, row_by_row
from engine.ir import print_graph
from engine.kernel import Kernel
from engine.model import estimate
from engine.needed import Few
from engine.options import Options
from engine.opts import RangeType, Schedule
from engine.picks import pick
from engine.programs import cost
from engine.repro import keep
from engine.schedule import replay
from engine.shapes import shape_of
from engine.target import Target


class Prepared(Protocol):
    """A kernel ready to run."""

    @property
    def source(self) -> str:
        """What was compiled, for people."""

    def __call__(self, inputs: Sequence[Array]) -> Array:
        """The output for inputs in slot order."""


P = TypeVar("P", bound=Prepared)
WORTH_FEW_S = 10e-6  # a tile of less, by the model, may as well be computed for one element of it
Prepare = Callable[[Kernel, Schedule, int], P]
Choose = Callable[[Kernel, Target, int], Schedule]


class Kernels(Generic[P]):
    """The kernels of one device, prepared when first asked for and kept by their structure.

    `name` is the device's, `prepare` makes a kernel of its definition, a schedule and a number of threads; `choose`
    gives the schedule of one that is not run in tiles along an axis. A kernel that cannot be made is a CompileError
    that names the pass and a file that shows it.
    """

    KEPT = 4096  # prepared at a time

    def __init__(
        self, name: str, target: Target, prepare: Prepare[P], options: Options, choose: Choose = pick
    ) -> None:
        self.name = name
        self._target = target
        self._prepare = prepare
        self._options = options
        self._choose = choose
        self._threads = options.threads or target.cores
        self._kept: dict[tuple[Kernel, int | None], P] = {}
        self._few: dict[tuple[Kernel, int], Few[P] | None] = {}
        self._lock = Lock()

    def __getitem__(self, kernel: Kernel) -> P:
        """The kernel, ready to run. CompileError also if there is no compiler, saying what to install."""
        return self.along(kernel, None)

    def along(self, kernel: Kernel, axis: int | None) -> P:
        """The kernel in tiles along an axis of its output, where that may be: a caller may run the first of them."""
        key = kernel, axis
        with self._lock:
            found = self._kept.pop(key, None) or self.make(kernel, axis=axis)
            self._kept[key] = found  # the one used last stands last
            if len(self._kept) > self.KEPT:
                del self._kept[next(iter(self._kept))]
            return found

    def few(self, kernel: Kernel, axis: int) -> Few[P] | None:
        """The kernel for a few elements along an axis of its output; None where `along` does as well for them."""
        with self._lock:
            if (kernel, axis) not in self._few:
                self._few[kernel, axis] = self._make_few(kernel, axis)
            return self._few[kernel, axis]

    def _make_few(self, kernel: Kernel, axis: int) -> Few[P] | None:
        many = in_tiles(kernel, pick(kernel, self._target, self._threads), axis)
        schedule = row_by_row(kernel, many, axis)
        leaf = next(iter(replay(kernel, many).of_type(RangeType.THREAD)), None)
        if schedule is None or schedule == many or leaf is None or leaf.axis.index != axis:
            return None
        tile, row = (self._tile_s(kernel, each) for each in (many, schedule))
        most = min(int(tile / row), leaf.stride)
        return Few(self.make(kernel, schedule), most) if tile >= WORTH_FEW_S and most >= 1 else None

    def _tile_s(self, kernel: Kernel, schedule: Schedule) -> float:
        """What one tile takes one thread, by the model."""
        scheduled = replay(kernel, schedule)
        return estimate(kernel, scheduled, self._target, 1) / scheduled.tiles

    def make(self, kernel: Kernel, schedule: Schedule | None = None, axis: int | None = None) -> P:
        """The kernel prepared anew, with `schedule` if one is given, else as `along`; it is not kept."""
        used = schedule
        try:
            if used is None:
                used = self._used(kernel, axis)
            made = self._prepare(kernel, used, self._threads)
        except Exception as error:
            raise self._failure(kernel, used, error) from error
        self._print(kernel, used, made.source)
        return made

    def _used(self, kernel: Kernel, axis: int | None) -> Schedule:
        if axis is None:
            return self._choose(kernel, self._target, self._threads)
        return in_tiles(kernel, pick(kernel, self._target, self._threads), axis)

    def _failure(self, kernel: Kernel, schedule: Schedule | None, error: Exception) -> CompileError:
        stage = getattr(error, "stage", "schedule" if schedule is None else "compile")
        place = keep(
            kernel, schedule or (), self.name, f"{type(error).__name__}: {error}", self._options.repros
        )
        reason = str(error).removeprefix(f"{stage}: ")
        return CompileError(stage, f"{reason}\nthe kernel is kept: python {place}", getattr(error, "log", ""))

    def _print(self, kernel: Kernel, schedule: Schedule, source: str) -> None:
        """What the option DEBUG asks for, on stderr."""
        level, work = self._options.debug, cost(kernel)
        if level == 0:
            return
        shape = shape_of(kernel.output)
        lines = [f"{self.name} kernel {kernel.dtype.name}{shape}: {work.flops:g} flops, {work.bytes:g} bytes"]
        lines += [f"  schedule: {' '.join(map(str, schedule)) or 'none'}"] * (level >= 2)
        if level >= 2:
            lines += [f"  {line}" for line in wishes.told(kernel, replay(kernel, schedule))]
        lines += [f"  {line}" for line in print_graph(kernel.output) if level >= 3]
        lines += [source] * (level >= 4)
        print(*lines, sep="\n", file=sys.stderr)
