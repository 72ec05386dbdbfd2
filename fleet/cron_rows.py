"""The tables of crons: what is to run by the clock, each run, and the numbers that runs declared."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from fleet.cron_plan import CatchUp, Overlap
from fleet.lifecycle_crons import CRON_RUN
from fleet.schema import Table, one_of, partial_index

HEALTHS = ("ok", "failing", "stalled")


class Cron(Table):
    """A job that starts by the clock. Times are epoch seconds.

    `decided_at`: every due time up to here has its run, or was before the cron's time; `next_at`: the next one, NULL
    while paused. `behind_since`: the first due time after which nothing has begun; `expected_by`: the time due after
    that one, from when on the cron is stalled. A removed cron keeps its row, for its history.
    """

    __tablename__ = "crons"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    name: Mapped[str]
    schedule: Mapped[str]
    timezone: Mapped[str]
    overlap: Mapped[str]
    catch_up: Mapped[str]
    most_caught_up: Mapped[int]
    job: Mapped[dict[str, Any]]  # the request that each run submits
    watch: Mapped[list[Any]] = mapped_column(default=list)
    accepted: Mapped[dict[str, Any]] = mapped_column(
        default=dict
    )  # series → the baseline begins after this run
    generation: Mapped[int] = mapped_column(default=1)
    decided_at: Mapped[float]
    next_at: Mapped[float | None]
    paused_at: Mapped[float | None]
    paused_by: Mapped[str | None]
    removed_at: Mapped[float | None]
    health: Mapped[str] = mapped_column(default="ok")
    health_reason: Mapped[str] = mapped_column(default="")
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    behind_since: Mapped[float | None]
    expected_by: Mapped[float | None]
    last_success_at: Mapped[float | None]
    created_by: Mapped[str]
    created_at: Mapped[float]
    __table_args__ = (
        one_of("overlap", Overlap),
        one_of("catch_up", CatchUp),
        one_of("health", HEALTHS),
        partial_index("uq_crons_live_name", "tenant", "name", where="removed_at IS NULL", unique=True),
        partial_index("ix_crons_next", "next_at", where="next_at IS NOT NULL"),
        partial_index("ix_crons_behind", "id", where="behind_since IS NOT NULL"),
    )


class CronRun(Table):
    """One run of a cron: of one due time there is one, whoever decides it."""

    __tablename__ = "cron_runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    cron_id: Mapped[int] = mapped_column(ForeignKey("crons.id"))
    scheduled_at: Mapped[float]
    by: Mapped[str | None]  # who asked for it; NULL: the clock
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    job_id: Mapped[int | None]  # kept when the job's row has gone
    reason: Mapped[str] = mapped_column(default="")
    error: Mapped[str] = mapped_column(default="")
    regressed: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    __table_args__ = (
        one_of("state", CRON_RUN.states),
        UniqueConstraint("cron_id", "scheduled_at"),
        Index("ix_cron_runs_page", "cron_id", "id"),
        partial_index("ix_cron_runs_live", "cron_id", where="state IN ('waiting', 'running')"),
        {"sqlite_autoincrement": True},
    )


class CronPoint(Table):
    """A number that a run declared, and what it was against its baseline; `good` ones make the next baselines."""

    __tablename__ = "cron_points"
    cron_id: Mapped[int] = mapped_column(ForeignKey("crons.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("cron_runs.id"), primary_key=True)
    at: Mapped[float]
    value: Mapped[float]
    verdict: Mapped[str]
    good: Mapped[bool]
    baseline: Mapped[float | None]
    mad: Mapped[float | None]
    limit: Mapped[float | None]
    __table_args__ = (Index("ix_cron_points_run_id", "run_id"),)
