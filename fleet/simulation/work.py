"""How a simulated node lives through the attempts that it is told to run, in simulated time. Pure but for chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.agents.protocol import AttemptReport, AttemptSpec, BurninSpec, Energy, NoopSpec, Outcome

KNOWN = ("noop", "command", "burnin")
Meter = tuple[float, float]  # joules drawn and seconds throttled so far


@dataclass
class _Life:
    """One attempt: until when it runs, and how it ends."""

    spec: AttemptSpec
    began: float
    ends: float
    outcome: Outcome
    error: str = ""
    exited: bool = False
    result: dict[str, Any] | None = None
    meter: Meter = (0.0, 0.0)  # of its GPUs at its start
    energy: Energy | None = None


class Work:
    """The attempts of one node. `speed`: how many seconds of an attempt pass in one of the clock."""

    def __init__(
        self,
        seed: str,
        speed: float,
        meter: Callable[[frozenset[str]], Meter] = lambda _: (0.0, 0.0),
        burn: Callable[[BurninSpec], dict[str, Any] | str] = lambda _: "nothing to burn in",
    ) -> None:
        """`burn`: the result of a burn-in, or why it fails."""
        self._chance = random.Random(seed)
        self._speed = speed
        self._meter = meter
        self._burn = burn
        self._lives: dict[tuple[int, int], _Life] = {}

    def apply(self, attempts: Iterable[AttemptSpec], settled: Collection[int], now: float) -> None:
        """Start what is new, stop what is no longer listed, forget what is settled."""
        wanted = {(spec.attempt_id, spec.fence): spec for spec in attempts}
        for key, life in list(self._lives.items()):
            if life.exited and key[0] in settled:
                del self._lives[key]
            elif not life.exited and key not in wanted:
                self._end(life, now, Outcome.CANCELLED, "")
        for key, spec in wanted.items():
            if key not in self._lives:
                self._lives[key] = self._begun(spec, now)
                self._lives[key].meter = self._meter(gpus_of(spec))

    def look(self, now: float, lost_gpus: Collection[str]) -> Sequence[AttemptReport]:
        """Every attempt as it is at `now`; those on GPUs that are lost end with them."""
        for life in self._lives.values():
            if life.exited:
                continue
            if not gpus_of(life.spec).isdisjoint(lost_gpus):
                self._end(life, now, Outcome.DEVICE_WEDGED, "the GPU fell off the bus (XID 79)")
            elif now >= life.ends:
                self._end(life, life.ends, life.outcome, life.error)
        return [self._report(life, now) for life in self._lives.values()]

    def next_end(self) -> float | None:
        """When the next attempt ends; None when none runs."""
        return min((life.ends for life in self._lives.values() if not life.exited), default=None)

    def held(self) -> Mapping[str, int]:
        """The job that holds a device, by the device's name, of the attempts that run."""
        running = [life.spec for life in self._lives.values() if not life.exited]
        return {device: spec.job_id for spec in running for device in devices_of(spec)}

    def _begun(self, spec: AttemptSpec, now: float) -> _Life:
        if spec.spec.kind not in KNOWN:
            why = f"a simulated node runs {' and '.join(KNOWN)} jobs only: it cannot know a kernel's time"
            return _Life(spec, now, now, Outcome.INVALID, why)
        result: dict[str, Any] | None = {"simulated": True}
        error = ""
        if isinstance(spec.spec, BurninSpec):
            found = self._burn(spec.spec)
            seconds = spec.spec.seconds
            outcome = Outcome.FAILED if isinstance(found, str) else Outcome.SUCCEEDED
            result, error = (None, found) if isinstance(found, str) else (found, "")
        elif isinstance(spec.spec, NoopSpec):
            seconds = spec.spec.seconds
            outcome = Outcome.FAILED if spec.spec.fail else Outcome.SUCCEEDED
            error = "it was asked to fail" if spec.spec.fail else ""
        else:
            seconds, outcome = (
                self._chance.lognormvariate(4.5, 1.0),
                Outcome.SUCCEEDED,
            )  # 90 s, some far longer
        if seconds > spec.timeout_s:
            seconds, outcome = spec.timeout_s, Outcome.TIMED_OUT
        return _Life(spec, now, now + seconds / self._speed, outcome, error, result=result)

    def _end(self, life: _Life, at: float, outcome: Outcome, error: str) -> None:
        life.exited, life.ends, life.outcome, life.error = True, max(at, life.began), outcome, error
        gpus = gpus_of(life.spec)
        if gpus:
            joules, throttled_s = (
                end - start for end, start in zip(self._meter(gpus), life.meter, strict=True)
            )
            life.energy = Energy(joules=joules, method="counter", throttled_s=throttled_s)

    def _report(self, life: _Life, now: float) -> AttemptReport:
        until = life.ends if life.exited else now
        return AttemptReport(
            attempt_id=life.spec.attempt_id,
            fence=life.spec.fence,
            state="exited" if life.exited else "running",
            outcome=life.outcome if life.exited else None,
            elapsed_s=max(0.0, until - life.began) * self._speed,
            result=life.result if life.exited and life.outcome is Outcome.SUCCEEDED else None,
            error=life.error if life.exited else "",
            energy=life.energy,
        )


def devices_of(spec: AttemptSpec) -> Sequence[str]:
    """The devices that an attempt holds, by name."""
    return (spec.device, *spec.gpus)


def gpus_of(spec: AttemptSpec) -> frozenset[str]:
    """Its devices that are GPUs: what it loses with them."""
    return frozenset(name for name in devices_of(spec) if name.startswith("gpu"))
