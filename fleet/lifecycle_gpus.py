"""The state machine of a GPU that was found at fault, as a table. Pure, like fleet/lifecycle.py, whose `advance` it goes by.

A GPU takes work in `ok` alone, and the only edge that leads there is a burn-in that passed.
"""

from __future__ import annotations

from enum import StrEnum

from fleet.lifecycle import Machine, Rescue


class GpuState(StrEnum):
    """One GPU of a node."""

    OK = "ok"  # takes work
    SUSPECT = "suspect"  # takes no new work; what holds it goes on, and when that has ended it is reset
    RESETTING = "resetting"  # its node was told to reset it, and has not said how that went
    RETEST = "retest"  # a burn-in, which alone may have it, has not ended
    QUARANTINED = "quarantined"  # an operator has to do something, and then ask for a retest


class GpuEvent(StrEnum):
    """What happens to a GPU."""

    BLAME = "blame"
    RESET = "reset"
    DONE = "done"
    PASS = "pass"
    FAIL = "fail"
    RETEST = "retest"


GPU = Machine(
    "gpu",
    GpuState.OK,
    {
        GpuState.OK: {GpuEvent.BLAME: GpuState.SUSPECT, GpuEvent.RETEST: GpuState.SUSPECT},
        GpuState.SUSPECT: {GpuEvent.RESET: GpuState.RESETTING, GpuEvent.FAIL: GpuState.QUARANTINED},
        GpuState.RESETTING: {GpuEvent.DONE: GpuState.RETEST, GpuEvent.FAIL: GpuState.QUARANTINED},
        GpuState.RETEST: {GpuEvent.PASS: GpuState.OK, GpuEvent.FAIL: GpuState.QUARANTINED},
        GpuState.QUARANTINED: {GpuEvent.RETEST: GpuState.SUSPECT},
    },
    {
        GpuState.SUSPECT: Rescue("the timeouts of what holds it", GpuEvent.RESET),
        GpuState.RESETTING: Rescue("five minutes without its node's word", GpuEvent.FAIL),
        GpuState.RETEST: Rescue("the burn-in's timeouts, waiting and running", GpuEvent.FAIL),
    },
)
