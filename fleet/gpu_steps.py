"""What becomes of GPUs that were found at fault: frozen values and the time in, steps out. Pure; fleet/gpus.py writes them.

The ladder is suspect → reset → retest → ok or quarantined. Each step is decided on what is so, not on what happened: one
that was missed is found by the next look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet.lifecycle_gpus import GpuState

FALLS = 3  # within FALLS_S: then no reset helps
FALLS_S = 86_400.0
RESET_WITHIN_S = 300.0
BY_HAND = "then ask for a retest: tinyfleet nodes retest"
OLD_AGENT = f"its agent is of before resets: bring it up to date, reset the GPU by hand, {BY_HAND}"


@dataclass(frozen=True)
class BurninView:
    """The job that tests a GPU: its state, and why it failed."""

    state: str
    error: str = ""


@dataclass(frozen=True)
class GpuView:
    """A GPU on the ladder, or one that is about to be. `fault`: what is found at it now; `held`: by a lease.

    `generation` is 0 without a row. `resets`: its agent knows what a reset is.
    """

    id: int
    node_id: int
    name: str
    state: str
    state_at: float
    generation: int = 0
    fault: str = ""
    held: bool = False
    resets: bool = True
    falls: tuple[float, ...] = ()
    burnin: BurninView | None = None


@dataclass(frozen=True)
class Blame:
    """It is at fault."""

    gpu: GpuView
    reason: str


@dataclass(frozen=True)
class Reset:
    """Nothing holds it: its node shall reset it."""

    gpu: GpuView


@dataclass(frozen=True)
class Burn:
    """It was reset: a burn-in shall test it."""

    gpu: GpuView


@dataclass(frozen=True)
class Pass:
    """Its burn-in passed, and nothing is found at it."""

    gpu: GpuView


@dataclass(frozen=True)
class Fail:
    """It stays out until an operator has done what `detail` says."""

    gpu: GpuView
    detail: str


Step = Blame | Reset | Burn | Pass | Fail


def steps(gpus: Iterable[GpuView], now: float) -> tuple[Step, ...]:
    """What is due; at most one step a GPU."""
    return tuple(step for gpu in gpus if (step := _step(gpu, now)) is not None)


def _step(gpu: GpuView, now: float) -> Step | None:
    match gpu.state:
        case GpuState.OK:
            return Blame(gpu, gpu.fault) if gpu.fault else None
        case GpuState.SUSPECT:
            return _suspect(gpu, now)
        case GpuState.RESETTING:
            late = now - gpu.state_at > RESET_WITHIN_S
            return (
                Fail(gpu, f"its node did not say how the reset went: look there, {BY_HAND}") if late else None
            )
        case GpuState.RETEST:
            return _retest(gpu)
    return None


def _suspect(gpu: GpuView, now: float) -> Step | None:
    fallen = len(recent(gpu.falls, now))
    if fallen >= FALLS:
        return Fail(gpu, f"it was at fault {fallen} times within a day: replace it, {BY_HAND}")
    if not gpu.resets:
        return Fail(gpu, OLD_AGENT)
    return None if gpu.held else Reset(gpu)


def _retest(gpu: GpuView) -> Step | None:
    if gpu.burnin is None:
        return Burn(gpu)
    if gpu.burnin.state == "succeeded":
        return Pass(gpu) if not gpu.fault else Fail(gpu, f"its burn-in passed, but {gpu.fault}; {BY_HAND}")
    if gpu.burnin.state in ("failed", "cancelled"):
        why = gpu.burnin.error or f"it was {gpu.burnin.state}"
        return Fail(gpu, f"its burn-in failed: {why}; replace or mend it, {BY_HAND}")
    return None


def recent(falls: Sequence[float], now: float) -> tuple[float, ...]:
    """Those falls that still count."""
    return tuple(at for at in falls if now - at < FALLS_S)
