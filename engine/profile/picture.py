"""Three numbers for a kernel: the percentages of the DRAM's, SRAM's and ALU's calibrated peaks, and what binds it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engine.profile.counts import Counts
from engine.profile.peaks import Peaks

BINDS = 0.4  # of a peak: below it nothing of the three is taken to bind
ABOVE = 1.15  # of DRAM's peak: the data cannot have come from there
LAUNCHES = 3.0  # as long as so many launches: what a launch costs may decide
IDLE = 1 / 3  # of its own time: if no kernel runs for as long before it, it does


class Bound(StrEnum):
    """What binds a kernel."""

    DRAM = "DRAM"  # memory bandwidth
    SRAM = "SRAM"  # loads and stores, and the caches nearest to the core
    ALU = "ALU"  # arithmetic
    CACHE = "LLC"  # its data lay in the last-level cache: faster than DRAM could give it
    LAUNCH = "launch"  # it is so short that coming to it takes a good part of the time
    LATENCY = (
        "latency"  # none of them: dependences, branches, page faults, threads that wait, or a disturbance
    )


@dataclass(frozen=True)
class Picture:
    """Shares of the peaks, 1.0 being all of one."""

    dram: float
    sram: float
    alu: float
    bound: Bound


def picture(counts: Counts, seconds: float, idle_s: float, peaks: Peaks) -> Picture:
    """The picture of a kernel that took `seconds` (more than 0), where one can do what `peaks` says.

    `idle_s`: for how long no kernel had run before it.
    """
    dram, sram, alu = (part(counts) / seconds for part in (peaks.dram_s, peaks.sram_s, peaks.alu_s))
    short = seconds < LAUNCHES * peaks.launch_s and idle_s >= IDLE * seconds
    bound = Bound.LAUNCH if short else _bound(dram, sram, alu)
    return Picture(dram, sram, alu, bound)


def _bound(dram: float, sram: float, alu: float) -> Bound:
    shares = {Bound.DRAM: dram, Bound.SRAM: sram, Bound.ALU: alu}
    if dram > ABOVE:
        shares = {Bound.CACHE: BINDS, Bound.SRAM: sram, Bound.ALU: alu}
    highest = max(shares, key=lambda bound: shares[bound])
    return highest if shares[highest] >= BINDS else Bound.LATENCY
