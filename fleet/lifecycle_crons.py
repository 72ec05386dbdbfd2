"""The state machine of a cron's run, as a table. Pure, like fleet/lifecycle.py, whose `advance` it goes by."""

from __future__ import annotations

from enum import StrEnum

from fleet.lifecycle import Machine, Rescue


class RunState(StrEnum):
    """One run of a cron: what became of one time at which it was due, or of somebody's wish."""

    WAITING = "waiting"  # another run of the same cron goes first
    RUNNING = "running"  # its job is queued or runs
    SUCCEEDED = "succeeded"  # final
    FAILED = "failed"  # final; `error` says how
    CANCELLED = "cancelled"  # final: somebody stopped its job, or its cron was removed
    SKIPPED = "skipped"  # final: another run was under way, and the cron's overlap policy is not to wait
    MISSED = "missed"  # final: the control plane was not there at its time, and it is not caught up


class RunEvent(StrEnum):
    """What happens to a run."""

    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    SKIP = "skip"
    MISS = "miss"


CRON_RUN = Machine(
    "cron run",
    RunState.WAITING,
    {
        RunState.WAITING: {
            RunEvent.START: RunState.RUNNING,
            RunEvent.FAIL: RunState.FAILED,
            RunEvent.CANCEL: RunState.CANCELLED,
            RunEvent.SKIP: RunState.SKIPPED,
            RunEvent.MISS: RunState.MISSED,
        },
        RunState.RUNNING: {
            RunEvent.SUCCEED: RunState.SUCCEEDED,
            RunEvent.FAIL: RunState.FAILED,
            RunEvent.CANCEL: RunState.CANCELLED,
        },
        RunState.SUCCEEDED: {},
        RunState.FAILED: {},
        RunState.CANCELLED: {},
        RunState.SKIPPED: {},
        RunState.MISSED: {},
    },
    {RunState.RUNNING: Rescue("the deadlines of its job; a job that is gone", RunEvent.FAIL)},
)
