"""What becomes of a cron's due times and of its runs. Pure: a view of one cron and the time in, a decision out;
fleet/cron_ticks.py writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fleet.lifecycle import JOB, JobState
from fleet.lifecycle_crons import RunState

MOST_WAITING = 100  # runs of one cron that wait for their turn; a further one is skipped


class Overlap(StrEnum):
    """What a run does that is due while another of its cron is under way."""

    SKIP = "skip"  # it is left out
    QUEUE = "queue"  # it waits for its turn
    REPLACE = "replace"  # the other one is stopped


class CatchUp(StrEnum):
    """What becomes of the times at which the control plane was not there."""

    NONE = "none"  # they are missed
    LAST = "last"  # the last one of them is run, once
    ALL = "all"  # each is run, one after another, up to a bound: the newest ones


class How(StrEnum):
    """How a due time begins its life as a run."""

    START = "start"
    WAIT = "wait"
    SKIP = "skip"
    MISS = "miss"


@dataclass(frozen=True)
class RunView:
    """A run that is not final. `job_state` is None for one that waits, and for one whose job is gone."""

    id: int
    scheduled_at: float
    state: str
    job_state: str | None = None
    begun: bool = False  # its job was started by a node

    @property
    def over(self) -> bool:
        """True when its job has ended or is gone."""
        return self.state == RunState.RUNNING and (self.job_state is None or self.job_state in JOB.final)


@dataclass(frozen=True)
class CronView:
    """One cron. `due`: its times since the last decision, oldest first, the newest of them when there are many.

    `behind_since`: the first due time after which nothing has begun; `expected_by`: when the cron is stalled if still
    nothing has (a period after that).
    """

    overlap: Overlap
    catch_up: CatchUp
    most_caught_up: int
    due: tuple[float, ...] = ()
    live: tuple[RunView, ...] = ()
    on_time_s: float = 60.0


@dataclass(frozen=True)
class Beginning:
    """A due time, and how its run begins."""

    scheduled_at: float
    how: How
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """Runs by id: `ended` have a final job, `stopped` are to be cancelled, `superseded` need not wait any more, and
    `promoted` has its turn now."""

    ended: tuple[int, ...] = ()
    beginnings: tuple[Beginning, ...] = ()
    stopped: tuple[int, ...] = ()
    superseded: tuple[int, ...] = ()
    promoted: int | None = None


@dataclass
class _Lane:
    """The runs of one cron while a decision is made: who is under way, who waits."""

    running: int
    waiting: int
    beginnings: list[Beginning] = field(default_factory=list)

    def start_or_wait(self, at: float) -> None:
        """Its turn, or a place in the line."""
        if not self.running and not self.waiting:
            self.beginnings.append(Beginning(at, How.START))
            self.running = 1
        elif self.waiting < MOST_WAITING:
            self.beginnings.append(Beginning(at, How.WAIT, "another run goes first"))
            self.waiting += 1
        else:
            self.beginnings.append(Beginning(at, How.SKIP, f"{MOST_WAITING} runs wait already"))


def decide(cron: CronView, now: float) -> Decision:
    """What happens to a cron now: ends first, then what is due, then whose turn it is."""
    ended = tuple(run.id for run in cron.live if run.over)
    running = [run for run in cron.live if run.state == RunState.RUNNING and not run.over]
    waiting = [run for run in cron.live if run.state == RunState.WAITING]
    missed, late, on_time = _sorted_out(cron, now)
    lane = _Lane(len(running), len(waiting), [Beginning(at, How.MISS, _MISSED) for at in missed])
    stopped: tuple[int, ...] = ()
    superseded: tuple[int, ...] = ()
    for at in late:
        lane.start_or_wait(at)
    for at in on_time:
        if cron.overlap is Overlap.REPLACE:
            superseded = tuple(run.id for run in waiting)
            stopped = tuple(run.id for run in running if run.job_state != JobState.CANCELLING)
            lane.waiting = 0
            lane.start_or_wait(at)
        elif cron.overlap is Overlap.SKIP and not late and (lane.running or lane.waiting):
            lane.beginnings.append(Beginning(at, How.SKIP, "another run is still under way"))
        else:
            lane.start_or_wait(at)
    promoted = None if lane.running else next((run.id for run in waiting if run.id not in superseded), None)
    return Decision(ended, tuple(lane.beginnings), stopped, superseded, promoted)


_MISSED = "the control plane was not there at its time"


def _sorted_out(cron: CronView, now: float) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """The due times that are missed, those to catch up, and the one (or none) that is on time.

    LAST runs once, whatever was missed: when the newest time is on time, that run is it.
    """
    due = cron.due
    fresh = bool(due) and now - due[-1] <= cron.on_time_s
    late, on_time = (due[:-1], due[-1:]) if fresh else (due, ())
    if cron.catch_up is CatchUp.NONE:
        return late, (), on_time
    if cron.catch_up is CatchUp.LAST:
        return (late, (), on_time) if fresh else (late[:-1], (), late[-1:])
    kept = min(len(late), cron.most_caught_up)
    return late[: len(late) - kept], late[len(late) - kept :], on_time


def is_stalled(behind_since: float | None, expected_by: float | None, now: float) -> bool:
    """Has nothing begun for a whole period? `expected_by` is the time due after `behind_since`."""
    return behind_since is not None and expected_by is not None and now >= expected_by
