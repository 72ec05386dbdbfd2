"""Which jobs that wait for others may go on, which never will, and how many of an array are made next. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fleet.lifecycle import JOB, JobState

MOST_MADE = 256  # jobs of one array in one pass


@dataclass(frozen=True)
class Needed:
    """A job, or an array, that another waits for: what is wanted of it (`fleet.scheduling_rows.After`), how it stands."""

    job_id: int
    after: str
    state: str
    started: bool
    noun: str = "job"

    @property
    def met(self) -> bool:
        """What is wanted of it has come to be."""
        if self.after == "after_ok":
            return self.state == JobState.SUCCEEDED
        return self.state in JOB.final or (self.after == "after" and self.started)

    @property
    def broken(self) -> bool:
        """What is wanted of it can no longer come to be."""
        return self.state in JOB.final and not self.met


@dataclass(frozen=True)
class Blocked:
    """A job that waits for others."""

    job_id: int
    generation: int
    needs: tuple[Needed, ...]


@dataclass(frozen=True)
class Unblock:
    """It waits no longer: it is queued, or (with an error) has failed."""

    job_id: int
    generation: int
    error: str = ""


@dataclass(frozen=True)
class ArrayView:
    """An array: how many of its jobs there are, of how many, how many of them have not ended, what it waits for."""

    id: int
    size: int
    made: int
    parallel: int
    unfinished: int
    needs: tuple[Needed, ...] = ()


@dataclass(frozen=True)
class Drop:
    """An array whose jobs will never be made, and why."""

    array_id: int
    error: str


@dataclass(frozen=True)
class Make:
    """Make the rows of an array's jobs from `first` on, so many."""

    array_id: int
    first: int
    count: int


def unblocked(jobs: Iterable[Blocked]) -> tuple[Unblock, ...]:
    """What becomes of those that need not wait on."""
    found = []
    for job in jobs:
        if error := _broken(job.needs):
            found.append(Unblock(job.job_id, job.generation, error))
        elif all(need.met for need in job.needs):
            found.append(Unblock(job.job_id, job.generation))
    return tuple(found)


def _broken(needs: Iterable[Needed]) -> str:
    """Which of these can no longer be met; empty when all can."""
    broken = next((need for need in needs if need.broken), None)
    if broken is None:
        return ""
    return f"{broken.noun} {broken.job_id}, after whose success it was to run, is {broken.state}"


def dropped(arrays: Iterable[ArrayView]) -> tuple[Drop, ...]:
    """Those that wait for a success that will not be."""
    return tuple(Drop(array.id, error) for array in arrays if (error := _broken(array.needs)))


def made(arrays: Iterable[ArrayView]) -> tuple[Make, ...]:
    """Enough that as many as may run at a time are there, and no more: the queue stays short."""
    found = []
    for array in arrays:
        if not all(need.met for need in array.needs):
            continue
        count = min(MOST_MADE, array.parallel - array.unfinished, array.size - array.made)
        if count > 0:
            found.append(Make(array.id, array.made, count))
    return tuple(found)
