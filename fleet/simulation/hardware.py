"""The hardware of one simulated node: work makes power, power makes heat, both make counters. No clock of its own.

Only shapes are meant to be right: idle and busy GPUs differ as real ones do, energy is the integral of power, and a
fault shows in every series in which the real one would.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from dataclasses import dataclass, field

from fleet.simulation.boxes import Box
from fleet.simulation.faults import Active, FaultKind

AMBIENT = 27.0
THROTTLES = ("power_cap", "hw_slowdown", "sync_boost", "sw_thermal", "hw_thermal", "power_brake")
BUSY_S, IDLE_S = 900.0, 600.0  # how long a stretch of work of its own, or of none, lasts on average


@dataclass
class SimulatedGpu:
    """The state of one GPU."""

    number: int
    box: Box
    chance: random.Random
    busy: bool = False
    until: float = 0.0
    work: float = 0.0  # 0 to 1: of a matrix product that never ends
    power_watts: float = 0.0
    peak_watts: float = 0.0
    temperature: float = 35.0
    clock_share: float = 1.0
    energy_joules: float = 0.0
    throttled: frozenset[str] = frozenset()
    throttle_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(THROTTLES, 0.0))
    link_bytes: float = 0.0
    uncorrected: float = 0.0
    aer: float = 0.0
    xids: dict[int, float] = field(default_factory=dict)
    xid_last: dict[int, float] = field(default_factory=dict)
    lost: bool = False  # says nothing: off the bus, or without a driver
    limit_watts: float = 0.0

    def advance(self, now: float, elapsed_s: float, leased: bool, load: float, faults: Active) -> None:
        """Live through `elapsed_s`; `leased` when an attempt holds the GPU, `load` is the share of time that it has
        work besides."""
        self._pick_work(now, leased, load)
        self._suffer(now, elapsed_s, faults)
        model = self.box.gpu
        wanted = model.idle_watts + self.work * (model.limit_watts * 1.04 - model.idle_watts)
        self.limit_watts = model.limit_watts * (0.7 if faults.has(FaultKind.LIMIT, self.number) else 1.0)
        limit = self.limit_watts * (0.45 if "power_brake" in self.throttled else 1.0)
        limit *= 0.6 if "hw_thermal" in self.throttled else 1.0
        self.power_watts = 0.0 if self.lost else min(wanted, limit) * self.chance.uniform(0.985, 1.0)
        self.peak_watts = 0.0 if self.lost else min(limit * 1.03, self.power_watts * 1.06)
        self.clock_share = 0.73 if self.throttled else 1.0 if self.work else 0.17
        if wanted > limit * 0.99 and not self.lost:
            self.throttled |= {"power_cap"}
        for reason in self.throttled:
            self.throttle_seconds[reason] += elapsed_s
        goal = AMBIENT + (60.0 if "hw_thermal" in self.throttled else 45.0) * self.power_watts / limit
        self.temperature += (goal - self.temperature) * (1.0 - math.exp(-elapsed_s / 40.0))
        self.energy_joules += self.power_watts * elapsed_s
        self.link_bytes += self.work * 2e9 * elapsed_s

    def reset(self) -> None:
        """What its driver counts begins anew; a fault that is switched on shows again."""
        self.uncorrected = 0.0
        self.xids.clear()
        self.xid_last.clear()

    def _pick_work(self, now: float, leased: bool, load: float) -> None:
        if now >= self.until:
            self.busy = self.chance.random() < load
            mean = BUSY_S if self.busy else IDLE_S
            self.until = now + self.chance.expovariate(1.0 / mean)
        at_work = leased or self.busy
        self.work = min(1.0, max(0.05, self.chance.gauss(0.9, 0.05))) if at_work else 0.0

    def _suffer(self, now: float, elapsed_s: float, faults: Active) -> None:
        off = faults.has(FaultKind.GPU_LOST, self.number)
        self.lost = off or faults.has(FaultKind.DRIVER, self.number)
        self.work = 0.0 if self.lost else self.work
        if off:
            if 79 not in self.xids:
                self._xid(79, now)
        else:
            self.xids.pop(79, None)
            self.xid_last.pop(79, None)
        xid = faults.value(FaultKind.XID, self.number)
        if xid is not None:
            self._xid(int(xid), now)
        throttled = {
            "hw_thermal": FaultKind.THERMAL,
            "power_brake": FaultKind.POWER_BRAKE,
        }
        self.throttled = frozenset(
            reason for reason, kind in throttled.items() if faults.has(kind, self.number) and not self.lost
        )
        if faults.has(FaultKind.ECC, self.number):
            self.uncorrected += max(1.0, elapsed_s / 30.0)
        if faults.has(FaultKind.LINK, self.number):
            self.aer += 3.0 * elapsed_s

    def _xid(self, xid: int, now: float) -> None:
        self.xids[xid] = self.xids.get(xid, 0.0) + 1.0
        self.xid_last[xid] = now


@dataclass
class SimulatedDrive:
    """The state of one drive."""

    number: int
    used_ratio: float
    spare_ratio: float = 1.0
    written_bytes: float = 4e13
    read_bytes: float = 9e13
    busy_seconds: float = 0.0
    media_errors: float = 0.0
    temperature: float = 41.0
    gone: bool = False

    def advance(self, elapsed_s: float, work: float, faults: Active) -> None:
        """Live through `elapsed_s` while the node's GPUs work so much, 0 to 1."""
        self.gone = faults.has(FaultKind.DRIVE_GONE, self.number)
        worn = faults.has(FaultKind.DRIVE_WEAR, self.number)
        self.used_ratio += elapsed_s * (1e-4 if worn else 1e-10)
        if worn:
            self.used_ratio = max(self.used_ratio, 0.93)
            self.spare_ratio = max(0.04, min(self.spare_ratio, 0.3) - 0.02 * elapsed_s)
            self.media_errors += elapsed_s / 20.0
        self.written_bytes += (2e6 + 4e8 * work) * elapsed_s
        self.read_bytes += (1e6 + 9e8 * work) * elapsed_s
        self.busy_seconds += min(1.0, 0.02 + 0.5 * work) * elapsed_s
        self.temperature = 39.0 + 14.0 * work


class SimulatedBox:
    """The hardware of one node. `seed` makes it this one and no other."""

    def __init__(self, box: Box, seed: str, started: float, load: float) -> None:
        self.box = box
        self.started = started
        self.load = load
        self._chance = random.Random(seed)
        self.gpus = [SimulatedGpu(number, box, self._chance) for number in range(box.gpus)]
        self.drives = [
            SimulatedDrive(number, self._chance.uniform(0.01, 0.4)) for number in range(box.drives)
        ]
        self.now = started
        self.faults = Active()
        self.cpu_joules = 0.0
        self.node_joules = 0.0
        self.cpu_seconds = 0.0
        self.timeouts = 0.0

    @property
    def work(self) -> float:
        """How much the GPUs work on average, 0 to 1."""
        return sum(gpu.work for gpu in self.gpus) / len(self.gpus)

    @property
    def rest_watts(self) -> float:
        """What all but the GPUs draws."""
        return self.box.rest_watts * (1.0 + 0.5 * self.work)

    @property
    def cpu_watts(self) -> float:
        """What the processors draw, of the rest."""
        return self.rest_watts * 0.55

    @property
    def true_watts(self) -> float:
        """What the node draws, with what its supplies lose."""
        return (self.rest_watts + sum(gpu.power_watts for gpu in self.gpus)) * 1.04

    @property
    def node_watts(self) -> float:
        """What the node's meter reads."""
        return self.true_watts * (0.7 if self.faults.has(FaultKind.METER) else 1.0)

    def advance(self, now: float, leased: Collection[int], faults: Active) -> None:
        """Live until `now`; attempts hold the GPUs `leased`."""
        elapsed_s = max(0.0, now - self.now)
        self.now, self.faults = now, faults
        for gpu in self.gpus:
            gpu.advance(now, elapsed_s, gpu.number in leased, self.load, faults)
        for drive in self.drives:
            drive.advance(elapsed_s, self.work, faults)
        self.cpu_joules += self.cpu_watts * elapsed_s
        self.node_joules += self.node_watts * elapsed_s
        self.cpu_seconds += 0.004 * elapsed_s
        self.timeouts += faults.has(FaultKind.HUNG)
