"""What the API answers about crons, shared by the routes and the SDK."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fleet.resources import Resource, Timestamp


class WatchedSeries(Resource):
    """A series of numbers that is compared with its baseline."""

    name: str
    better: Literal["lower", "higher"]
    tolerance: float = Field(description="relative to the baseline: 0.05 is five percent")
    window: int = Field(description="how many good runs make the baseline")
    least: int = Field(description="how many there must be before anything is said")


class CronRun(Resource):
    """One run of a cron: what became of one due time, or of somebody's wish."""

    id: int
    cron_id: int
    scheduled_at: Timestamp
    by: str | None = Field(default=None, description="who asked for it; null: the clock")
    state: str = Field(
        description="waiting, running, succeeded, failed, cancelled, skipped (another one was under way) or missed "
        "(the control plane was not there)"
    )
    job_id: int | None = None
    reason: str = Field(default="", description="why it waits, was skipped or missed")
    error: str = Field(default="", description="how it failed, or what of its numbers could not be taken")
    regressed: bool = Field(default=False, description="one of its numbers is worse than its baseline")
    created_at: Timestamp
    started_at: Timestamp | None = Field(default=None, description="when its job was submitted")
    finished_at: Timestamp | None = None


class Cron(Resource):
    """A job that starts by the clock."""

    id: int
    name: str
    schedule: str = Field(
        description="minute, hour, day of month, month, day of week; or @daily and its like"
    )
    timezone: str
    overlap: Literal["skip", "queue", "replace"]
    catch_up: Literal["none", "last", "all"]
    most_caught_up: int
    job: dict[str, Any] = Field(description="what each run submits")
    watch: list[WatchedSeries]
    paused: bool
    paused_by: str | None = None
    health: str = Field(description="ok, failing, or stalled: nothing has begun for a whole period")
    health_reason: str = ""
    failures: int = Field(description="how many runs have failed in a row")
    upcoming: list[Timestamp] = Field(default_factory=list, description="the next times, none while paused")
    last_run: CronRun | None = None
    last_success_at: Timestamp | None = None
    created_by: str
    created_at: Timestamp


class Point(Resource):
    """One run's number of a series."""

    run_id: int
    at: Timestamp
    value: float
    verdict: str = Field(description="new (nothing to compare with), ok, better or regressed")
    baseline: float | None = Field(default=None, description="median of the good runs before it")
    mad: float | None = Field(default=None, description="their median absolute deviation")
    limit: float | None = Field(default=None, description="what it was not to pass")


class Series(Resource):
    """The numbers of one name that a cron's runs declared, oldest first."""

    name: str
    watched: WatchedSeries | None = None
    points: list[Point]
