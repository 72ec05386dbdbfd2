"""From a definition and a schedule to source: the one place where the order of passes can be read."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from engine import lanes, linearize, lower, places, schedule, small_floats, transcendental
from engine.errors import CompileError, EngineError
from engine.ir import UOp
from engine.kernel import Kernel
from engine.opts import Schedule
from engine.render.language import Renderer, joined
from engine.schedule import Scheduled
from engine.spec import Level, verify
from engine.target import Features


@dataclass(frozen=True)
class Rendered:
    """Source of one kernel. `entry` takes (buffers, first, last): tiles [first, last) of `tiles`.

    buffers[0] is the output, buffers[1 + slot] the input of that slot. Of a kernel with stages the last buffer is
    scratch memory of `scratch` bytes, starting at a multiple of 64, for each thread its own.

    With `combine` the kernel runs in two phases. This entry leaves partial results in `partials` bytes, which it takes
    in the output's place; when all its tiles are done, the entry of `combine` is called with the output, the inputs
    and, behind them, that memory.
    """

    source: str
    entry: str
    tiles: int
    scheduled: Scheduled
    combine: Rendered | None = None  # the second phase, in the same source

    @property
    def partials(self) -> int:
        """Bytes of memory between the two phases; 0 if there is one."""
        return self.scheduled.partials

    @property
    def scratch(self) -> int:
        """Bytes of scratch memory that each thread needs."""
        return self.scheduled.scratch


def compile_source(
    kernel: Kernel, opts: Schedule, renderer: Renderer, features: Features, name: str = "kernel"
) -> Rendered:
    """Replay, lower, settle, linearize and render.

    IllegalOpt if the schedule does not fit. VerifyError and CompileError name the pass, and are our bug.
    """
    with _uncollected():
        verify(kernel.output, Level.DEFINITION, "definition")
        with _naming("schedule"):
            scheduled = schedule.replay(kernel, opts)
        return compile_scheduled(scheduled, renderer, features, name)


def compile_scheduled(
    scheduled: Scheduled, renderer: Renderer, features: Features, name: str = "kernel"
) -> Rendered:
    """The passes behind the replay. Errors as `compile_source`."""
    root = _pass("lower", Level.KERNEL, lambda: lower.lower(scheduled.kernel, scheduled, fma=features.fma))
    return compile_lowered(root, scheduled, renderer, features, name)


def compile_lowered(
    root: UOp, scheduled: Scheduled, renderer: Renderer, features: Features, name: str = "kernel"
) -> Rendered:
    """The passes behind the lowering of `scheduled` to the SINK `root`, and all for its second phase, if any.

    Errors as `compile_source`.
    """
    source = _source(root, renderer, features, name)
    if scheduled.combine is None:
        return Rendered(source, name, scheduled.tiles, scheduled)
    second = compile_scheduled(scheduled.combine, renderer, features, f"{name}_combine")
    source = joined(source, second.source)
    return Rendered(source, name, scheduled.tiles, scheduled, replace(second, source=source))


def _source(root: UOp, renderer: Renderer, features: Features, name: str) -> str:
    root = _pass("settle_places", Level.KERNEL, partial(places.settle_places, root))
    root = _pass("small_floats", Level.WIDE, partial(small_floats.widen, root))
    expand = partial(transcendental.expand_all, root, fma=features.fma)
    root = _pass("transcendental", Level.BASIC, expand)
    root = _pass("lanes", Level.LANES, partial(lanes.settle_lanes, root))
    with _naming("linearize"):
        linear = linearize.linearize(root)
    with _naming("render"):
        return renderer.render(linear, name)


def _pass(stage: str, level: Level, run: Callable[[], UOp]) -> UOp:
    with _naming(stage):
        root = run()
    verify(root, level, stage)
    return root


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without looking for cycles meanwhile: graphs have none, and looking takes an eighth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _naming(stage: str) -> Iterator[None]:
    """What a pass does not expect names it."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise CompileError(stage, f"{type(error).__name__}: {error}") from error
