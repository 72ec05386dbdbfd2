"""One simulated node: it joins, syncs, pushes its metrics and runs attempts, each when it is due."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.agents.keys import Signer
from fleet.agents.protocol import (
    BurninSpec,
    Desired,
    DeviceReport,
    Inventory,
    Observed,
    ResetReport,
    ResetSpec,
)
from fleet.simulation.boxes import Box
from fleet.simulation.exposed import Exposed
from fleet.simulation.faults import Active, FaultKind
from fleet.simulation.hardware import SimulatedBox
from fleet.simulation.wire import NoAnswer, Refusal, Wire
from fleet.simulation.work import Work

LONGEST_PAUSE_S = 30.0
CONFLICT = 409
# Made-up rates of burn-ins: operations a second of a core, and for each hertz of a GPU's clock.
CPU_RATE, GPU_RATE = 4e9, 4e3
BROKEN = (FaultKind.ECC, FaultKind.REMAP)
SLOWING = (FaultKind.THERMAL, FaultKind.POWER_BRAKE, FaultKind.LIMIT)
KERNEL_DRIVERS = {"nvidia": "nvidia", "amd": "amdgpu"}
_log = logging.getLogger(__name__)


@dataclass
class Counts:
    """What a node has done."""

    syncs: int = 0
    pushes: int = 0
    failures: int = 0
    attempts: int = 0


class SimulatedNode:
    """One node. Its methods are called by one thread at a time; `clock` is the server's time as far as this machine
    knows it, which a clock that is off is then off from."""

    def __init__(
        self,
        name: str,
        box: Box,
        wire: Wire,
        state: Path,
        speed: float,
        load: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.box = box
        self.faults = Active()
        self.counts = Counts()
        self._wire = wire
        self._clock = clock
        self._signer = Signer(state, self._time)
        self._hardware = SimulatedBox(box, name, clock(), load)
        self._exposed = Exposed(self._hardware, f"SIM{name[-8:].upper()}")
        self._work = Work(name, speed, self._meter, self._burn)
        self._resets: list[ResetReport] = []
        self._boot_id = secrets.token_hex(8)
        self._sequence = 0
        self._applied = 0
        self._inventory_due = True
        self._failed = 0
        self._poll_s, self._push_s = 5.0, 10.0
        self.next_sync, self.next_push = 0.0, 0.0

    def _time(self) -> float:
        return self._clock() + (self.faults.value(FaultKind.CLOCK_SKEW) or 0.0)

    def _meter(self, gpus: frozenset[str]) -> tuple[float, float]:
        """Joules that these GPUs have drawn, and for how long any of them was held down."""
        mine = [gpu for gpu in self._hardware.gpus if f"gpu{gpu.number}" in gpus]
        held = [sum(gpu.throttle_seconds.values()) for gpu in mine]
        return sum(gpu.energy_joules for gpu in mine), max(held, default=0.0)

    def _burn(self, spec: BurninSpec) -> dict[str, Any] | str:
        """A burn-in's result, or why it fails: what is wrong with a GPU shows in its answers, or in how fast they come."""
        if spec.gpu is None:
            return {"rate": CPU_RATE * self.box.cores, "rounds": 100, "seconds": spec.seconds}
        gpu = next(each for each in self._hardware.gpus if f"gpu{each.number}" == spec.gpu)
        if gpu.lost:
            return f"{spec.gpu}: cuInit answers 100"
        broken = any(self.faults.has(kind, gpu.number) for kind in BROKEN)
        if broken or self.faults.value(FaultKind.XID, gpu.number) is not None:
            return f"{spec.gpu}, round 1: 3 of 262144 known answers are wrong (thread 7: 0, not 12)"
        slow = 0.5 if any(self.faults.has(kind, gpu.number) for kind in SLOWING) else 1.0
        return {
            "rate": GPU_RATE * self.box.gpu.clock_hertz * slow,
            "rounds": 100,
            "seconds": spec.seconds,
            "link_width": 8 if self.faults.has(FaultKind.LINK, gpu.number) else 16,
            "link_generation": 5,
            "temperature_celsius": round(gpu.temperature, 1),
        }

    def _reset(self, spec: ResetSpec) -> ResetReport:
        """At once; a GPU that is off the bus, or without a driver, cannot be."""
        gpu = next(each for each in self._hardware.gpus if f"gpu{each.number}" == spec.gpu)
        if gpu.lost:
            detail = "it does not answer: reboot the node"
            return ResetReport(gpu=spec.gpu, generation=spec.generation, done=False, detail=detail)
        gpu.reset()
        return ResetReport(gpu=spec.gpu, generation=spec.generation, done=True)

    @property
    def due(self) -> float:
        """When it has something to do."""
        return min(self.next_sync, self.next_push)

    def join(self, join_token: str) -> int:
        """Enrol; returns the node's id. Raises Refusal and NoAnswer."""
        return self._wire.enroll(self._signer, join_token, self.name, self.inventory())

    def inventory(self) -> Inventory:
        """What it says that it has. Nothing can be compiled here: kernels are not what it can run."""
        gpu = self.box.gpu
        cpu = DeviceReport(
            name="cpu",
            kind="cpu",
            model="simulated processor",
            arch="simulated",
            slots=self.box.cores,
            memory_bytes=self.box.memory_bytes,
            problem="simulated: it runs no kernels",
        )
        gpus = [
            DeviceReport(
                name=f"gpu{number}",
                kind="gpu",
                model=gpu.product,
                arch=gpu.arch,
                memory_bytes=gpu.memory_bytes,
                vendor=gpu.vendor,
                driver=KERNEL_DRIVERS.get(gpu.vendor, ""),
            )
            for number in range(self.box.gpus)
        ]
        return Inventory(
            hostname=f"{self.name}.simulated",
            agent_version="simulated",
            cores=self.box.cores,
            memory_bytes=self.box.memory_bytes,
            os="simulated",
            devices=[cpu, *gpus],
        )

    def step(self) -> None:
        """Do what is due now. What fails is tried again, later each time."""
        now = self._clock()
        if self.faults.has(FaultKind.SILENT):
            self.next_sync = self.next_push = now + self._poll_s
            return
        try:
            if now >= self.next_sync:
                self._sync(now)
            if now >= self.next_push:
                self._push(now)
            self._failed = 0
        except (NoAnswer, Refusal) as error:
            self._failed += 1
            self.counts.failures += 1
            pause = min(LONGEST_PAUSE_S, 0.5 * 2.0**self._failed)
            if self._failed in (1, 5) or self._failed % 20 == 0:
                _log.warning("%s: %s (failure %d)", self.name, error, self._failed)
            self.next_sync = self.next_push = now + pause

    def _live(self, now: float) -> dict[int, int]:
        """Let the hardware live until now; returns the job that holds a GPU, by the GPU's number."""
        held = self._work.held()
        jobs = {int(name[3:]): job for name, job in held.items() if name[:3] == "gpu" and name[3:].isdigit()}
        self._hardware.advance(now, jobs.keys(), self.faults)
        return jobs

    def _sync(self, now: float) -> None:
        self._live(now)
        lost = {f"gpu{gpu.number}" for gpu in self._hardware.gpus if gpu.lost}
        self._sequence += 1
        observed = Observed(
            boot_id=self._boot_id,
            sequence=self._sequence,
            generation=self._applied,
            inventory=self.inventory() if self._inventory_due else None,
            attempts=list(self._work.look(now, lost)),
            resets=self._resets,
        )
        desired = self._wire.sync(self._signer, observed)
        self._inventory_due = False
        self.counts.syncs += 1
        self._apply(desired, now)

    def _apply(self, desired: Desired, now: float) -> None:
        before = self._applied
        self._work.apply(desired.attempts, desired.settled, now)
        told = {(said.gpu, said.generation): said for said in self._resets}
        self._resets = [told.get((spec.gpu, spec.generation)) or self._reset(spec) for spec in desired.resets]
        self._applied, self._poll_s = desired.generation, desired.poll_s
        ends = self._work.next_end()
        pause = self._poll_s if ends is None else max(0.05, min(self._poll_s, ends - now))
        # news are applied at once, and said at once
        self.next_sync = now + (min(pause, 0.2) if desired.generation != before else pause)

    def _push(self, now: float) -> None:
        jobs = self._live(now)
        if self.faults.has(FaultKind.NO_METRICS):
            self.next_push = now + self._push_s
            return
        try:
            self._push_s = self._wire.push(self._signer, self._exposed.text(jobs))
        except Refusal as error:
            if error.status != CONFLICT:  # a newer one is there already
                raise
        self.counts.pushes += 1
        self.next_push = max(self.next_push + self._push_s, now + self._push_s / 2)
