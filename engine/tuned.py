"""Schedules that searches found, in programs: what the variable BEAM asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import EngineError
from engine.flags import Flags
from engine.kernel import Kernel
from engine.options import Options
from engine.opts import Schedule
from engine.outcome import Measured
from engine.picks import pick
from engine.schedule import replay
from engine.search import search
from engine.serialize import kernel_hash
from engine.shapes import shape_of
from engine.store import Store
from engine.target import Target


@dataclass(frozen=True)
class Tuned:
    """Chooses schedules as `options.beam` says: the model's pick without it; else the best that is stored.

    What nothing is stored for is searched first, for `options.beam` seconds if they are more than 0. `tell` hears of
    each search, and of what could not be searched or read: the model's pick is used then.
    """

    options: Options
    tell: Callable[[str], None]

    def __call__(self, kernel: Kernel, target: Target, threads: int) -> Schedule:
        """The schedule for a kernel on so many threads."""
        budget_s = self.options.beam
        if budget_s is not None:
            try:
                best = self._best(kernel, target, threads, budget_s)
                if best is not None:
                    replay(kernel, best.schedule)  # an older version of the engine may have allowed more
                    return best.schedule
            except (EngineError, OSError) as error:
                self.tell(f"BEAM: the model's pick is used for {_shown(kernel)}: {error}")
        return pick(kernel, target, threads)

    def _best(self, kernel: Kernel, target: Target, threads: int, budget_s: float) -> Measured | None:
        store = Store(self.options.cache / "engine", self.tell)
        known = store.best(kernel_hash(kernel), target.id, threads)
        if known is not None or budget_s == 0:
            return known
        found = search(kernel, target, store=store, flags=Flags(budget_s=budget_s, threads=threads))
        best = "none was right" if found.best is None else f"{(found.best.time_s or 0.0) * 1e6:.1f} µs"
        counts = f"candidates: {len(found.measured)}, {found.elapsed_s:.1f} s"
        self.tell(f"BEAM: {_shown(kernel)}, threads: {threads}, best: {best}, {counts}")
        return found.best


def _shown(kernel: Kernel) -> str:
    return f"{kernel.dtype.name}{shape_of(kernel.output)} {kernel_hash(kernel)[:16]}"
