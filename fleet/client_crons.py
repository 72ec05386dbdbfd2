"""The SDK's calls about crons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleet.client_wire import Connection, given, new_key
from fleet.cron_resources import Cron, CronRun, Series
from fleet.resources import Page


class CronCalls(Connection):
    """Crons: jobs that start by the clock."""

    def add_cron(
        self,
        name: str,
        schedule: str,
        job: Mapping[str, Any],
        *,
        timezone: str | None = None,
        overlap: str | None = None,
        catch_up: str | None = None,
        most_caught_up: int | None = None,
        watch: Sequence[Mapping[str, Any]] | None = None,
        paused: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Cron:
        """A new cron. `job` is what POST /v1/jobs takes: a spec and, if wanted, where and how long it may run.
        `watch`: the series that are compared, each with its name, better, tolerance, window and least."""
        policies = given(overlap=overlap, catch_up=catch_up, most_caught_up=most_caught_up)
        more = given(timezone=timezone, watch=watch and [dict(each) for each in watch], paused=paused)
        body = {"name": name, "schedule": schedule, "job": dict(job), **policies, **more}
        return self._post(Cron, "/v1/crons", body, idempotency_key or new_key())

    def change_cron(self, cron_id: int, **changes: Any) -> Cron:
        """Change some of schedule, timezone, job (the whole of it), overlap, catch_up, most_caught_up and watch (all of
        them); its history stays."""
        reply = self._send("PATCH", f"/v1/crons/{cron_id}", body=given(**changes), repeatable=True)
        return Cron.model_validate(reply.json())

    def crons(
        self, name: str | None = None, after: int | None = None, limit: int | None = None
    ) -> Page[Cron]:
        """Crons, newest first; or the one of a name."""
        return self._get(Page[Cron], "/v1/crons", given(name=name, after=after, limit=limit))

    def cron(self, cron_id: int) -> Cron:
        """One cron: how it stands, its last run and when it is due."""
        return self._get(Cron, f"/v1/crons/{cron_id}")

    def cron_runs(self, cron_id: int, after: int | None = None, limit: int | None = None) -> Page[CronRun]:
        """A cron's runs, newest first."""
        return self._get(Page[CronRun], f"/v1/crons/{cron_id}/runs", given(after=after, limit=limit))

    def cron_series(self, cron_id: int, limit: int | None = None) -> list[Series]:
        """The numbers that a cron's runs declared, with the verdicts on them."""
        return self._get(Page[Series], f"/v1/crons/{cron_id}/series", given(limit=limit)).items

    def run_cron(self, cron_id: int, idempotency_key: str | None = None) -> CronRun:
        """Run it now, beside its schedule; it waits for its turn when another run is under way."""
        return self._post(CronRun, f"/v1/crons/{cron_id}/run", key=idempotency_key or new_key())

    def pause_cron(self, cron_id: int) -> Cron:
        """Start nothing more by the clock."""
        return self._post(Cron, f"/v1/crons/{cron_id}/pause")

    def resume_cron(self, cron_id: int) -> Cron:
        """Go by the clock again."""
        return self._post(Cron, f"/v1/crons/{cron_id}/resume")

    def accept_series(self, cron_id: int, series: str) -> Cron:
        """What the series shows now is right: its baseline begins anew."""
        return self._post(Cron, f"/v1/crons/{cron_id}/accept", {"series": series})

    def remove_cron(self, cron_id: int) -> None:
        """Take the cron out; what runs of it is cancelled."""
        self._send("DELETE", f"/v1/crons/{cron_id}", repeatable=True)
