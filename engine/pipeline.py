"""From a definition and a schedule to source: the one place where the order of passes can be read."""

from __future__ import annotations

from dataclasses import dataclass

from engine import lanes, linearize, lower, places, schedule, small_floats
from engine.ir import UOp
from engine.kernel import Kernel
from engine.opts import Schedule
from engine.render.language import Renderer
from engine.schedule import Scheduled
from engine.spec import Level, verify
from engine.target import Features


@dataclass(frozen=True)
class Rendered:
    """Source of one kernel. `entry` takes (buffers, first, last): tiles [first, last) of `tiles`.

    buffers[0] is the output, buffers[1 + slot] the input of that slot.
    """

    source: str
    entry: str
    tiles: int
    scheduled: Scheduled


def compile_source(
    kernel: Kernel, opts: Schedule, renderer: Renderer, features: Features, name: str = "kernel"
) -> Rendered:
    """Replay, lower, settle, linearize and render. IllegalOpt if the schedule does not fit; VerifyError is our bug."""
    verify(kernel.output, Level.DEFINITION, "definition")
    scheduled = schedule.replay(kernel, opts)
    root = _pass("lower", Level.KERNEL, lower.lower(kernel, scheduled, fma=features.fma))
    root = _pass("settle_places", Level.KERNEL, places.settle_places(root))
    root = _pass("small_floats", Level.WIDE, small_floats.widen(root))
    root = _pass("lanes", Level.LANES, lanes.settle_lanes(root))
    return Rendered(renderer.render(linearize.linearize(root), name), name, scheduled.tiles, scheduled)


def _pass(stage: str, level: Level, root: UOp) -> UOp:
    verify(root, level, stage)
    return root
