"""The control plane's own metrics, read from the database at scrape time.

Gauges are what the rows say now. Counters begin at zero with the process and count rows by their ids, which only grow:
a scrape reads what came since the last one, never a whole table. Every replica reads the same database, so that of
several only one is to be believed: aggregate with max, not with sum.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from sqlalchemy import case, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from fleet import cron_metrics, faults, nodes, places
from fleet.db import now
from fleet.lifecycle import JOB, SEARCH, JobState, NodeState
from fleet.models import (
    Attempt,
    Device,
    Event,
    Job,
    Lease,
    LeaseGpu,
    Node,
    Rack,
    Round,
    Search,
    TunedKernel,
)
from fleet.places import Standpoint
from fleet.readings import SKEW
from fleet.redaction import label
from fleet.settings import Timings
from fleet.telemetry import Telemetry

WAITS_S = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
_QUARANTINED = "kernel.quarantined"
_FINISHED = {f"{machine.name}.{state}": machine.name for machine in (JOB, SEARCH) for state in machine.final}
WHERE = ("node", "site", "rack")


@dataclass
class _Waits:
    """How long jobs waited for their first lease: how many at most so long, all of them, and their sum."""

    within: list[int] = field(default_factory=lambda: [0] * len(WAITS_S))
    count: int = 0
    total_s: float = 0.0


class Tally:
    """Counters over rows that only grow. One for each process; it may be used from any thread."""

    def __init__(self, session: Session) -> None:
        self._lock = threading.Lock()
        self._seen = {table: _newest(session, table) for table in (Event.id, Attempt.id, Round.id)}
        self._finished: Counter[str] = Counter(dict.fromkeys(_FINISHED, 0))
        self._rounds = 0
        self._quarantined = 0
        self._waits = _Waits()

    def metrics(self, session: Session) -> Iterator[Metric]:
        """Count what came since the last time, and say all."""
        with self._lock:
            self._count(session)
            yield from self._said()

    def _count(self, session: Session) -> None:
        first, last = self._range(session, Event.id)
        new = (Event.id > first) & (Event.id <= last) & Event.kind.in_([*_FINISHED, _QUARANTINED])
        for kind, count in session.execute(select(Event.kind, func.count()).where(new).group_by(Event.kind)):
            if kind == _QUARANTINED:  # its rows go again when a node's word is taken back
                self._quarantined += count
            else:
                self._finished[kind] += count
        first, last = self._range(session, Round.id)
        self._rounds += last - first
        self._count_waits(session, *self._range(session, Attempt.id))

    def _count_waits(self, session: Session, first: int, last: int) -> None:
        waited = Attempt.created_at - Job.created_at
        within = [func.coalesce(func.sum(case((waited <= bound, 1), else_=0)), 0) for bound in WAITS_S]
        query = select(func.count(), func.coalesce(func.sum(waited), 0.0), *within)
        mine = (Attempt.id > first) & (Attempt.id <= last) & (Attempt.number == 1)
        row = session.execute(
            query.select_from(Attempt).join(Job, Job.id == Attempt.job_id).where(mine)
        ).one()
        self._waits.count += row[0]
        self._waits.total_s += row[1]
        self._waits.within = [have + more for have, more in zip(self._waits.within, row[2:], strict=True)]

    def _range(self, session: Session, column: InstrumentedAttribute[int]) -> tuple[int, int]:
        first, last = self._seen[column], _newest(session, column)
        self._seen[column] = last
        return first, last

    def _said(self) -> Iterator[Metric]:
        for noun in ("job", "search"):
            plural = {"job": "jobs", "search": "searches"}[noun]
            family = CounterMetricFamily(
                f"fleet_{plural}_finished", f"{plural.capitalize()} that ended, by how.", labels=("state",)
            )
            for kind, of in _FINISHED.items():
                if of == noun:
                    family.add_metric((kind.partition(".")[2],), self._finished[kind])
            yield family
        yield CounterMetricFamily("fleet_search_rounds", "Rounds that searches began.", value=self._rounds)
        yield CounterMetricFamily(
            "fleet_quarantined_candidates",
            "Candidates set aside because they crashed, hung, lied or wrote elsewhere.",
            value=self._quarantined,
        )
        waits = HistogramMetricFamily(
            "fleet_queue_wait_seconds", "From a job's submission to its first lease."
        )
        bounds = [f"{bound:g}" for bound in WAITS_S]
        buckets = [
            *zip(bounds, map(float, self._waits.within), strict=True),
            ("+Inf", float(self._waits.count)),
        ]
        waits.add_metric((), buckets, self._waits.total_s)
        yield waits


def _newest(session: Session, column: InstrumentedAttribute[int]) -> int:
    return session.scalar(select(func.max(column))) or 0


@dataclass(frozen=True)
class Sources:
    """What is read besides the rows: intervals, when the control plane started, what nodes said."""

    timings: Timings
    up_since: float
    telemetry: Telemetry
    tally: Tally


def render(session: Session, sources: Sources) -> str:
    """Everything, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected([*_all(session, sources)]))
    return generate_latest(registry).decode()


@dataclass(frozen=True, eq=False)  # the registry keeps it by identity
class _Collected:
    """What was read already, as the client library takes it."""

    found: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.found


def _all(session: Session, sources: Sources) -> Iterator[Metric]:
    at = now(session)
    rows = session.scalars(select(Node).where(Node.state != NodeState.RETIRED).order_by(Node.id)).all()
    where = places.of(session, [row.id for row in rows])
    yield from _nodes(rows, where, at, sources)
    yield from _gpus(session, rows, where)
    yield from _findings(session, rows, where)
    yield from _racks(session, rows, where)
    yield from _jobs(session, at)
    yield from _searches(session)
    yield from cron_metrics.metrics(session)
    yield from sources.tally.metrics(session)


def _at(row: Node, where: Mapping[int, Standpoint]) -> tuple[str, str, str]:
    place = where[row.id]
    return label(row.name), label(place.site), label(place.rack)


def _nodes(
    rows: Sequence[Node], where: Mapping[int, Standpoint], at: float, sources: Sources
) -> Iterator[Metric]:
    contacts = {row.id: str(nodes.contact(row, at, sources.timings, sources.up_since)) for row in rows}
    count = GaugeMetricFamily("fleet_nodes", "Nodes by contact and state.", labels=("contact", "state"))
    states = [state for state in NodeState if state is not NodeState.RETIRED]
    found = Counter((contacts[row.id], row.state) for row in rows)
    for contact in nodes.Contact:
        for state in states:
            count.add_metric((str(contact), str(state)), found[str(contact), str(state)])
    yield count
    online = GaugeMetricFamily("fleet_node_online", "Whether the node's agent syncs in time.", labels=WHERE)
    cordoned = GaugeMetricFamily("fleet_node_cordoned", "Whether it takes nothing new.", labels=WHERE)
    age = GaugeMetricFamily(
        "fleet_node_metrics_age_seconds", "How old the node's latest exposition is.", labels=WHERE
    )
    skew = GaugeMetricFamily(
        SKEW,
        "How far the node's clock was behind at its latest exposition, with what the way took.",
        labels=WHERE,
    )
    said = sources.telemetry.readings([row.id for row in rows])
    for row in rows:
        online.add_metric(_at(row, where), contacts[row.id] == nodes.Contact.ONLINE)
        cordoned.add_metric(_at(row, where), row.cordoned)
        latest = said.get(row.id)
        since = sources.up_since if latest is None else latest.received_at
        age.add_metric(_at(row, where), max(0.0, at - since))
        if latest is not None:
            skew.add_metric(_at(row, where), latest.skew_s)
    yield from (online, cordoned, age, skew)


def _gpus(session: Session, rows: Sequence[Node], where: Mapping[int, Standpoint]) -> Iterator[Metric]:
    gpus = (Device.kind == "gpu") & Device.present
    have = dict(
        session.execute(select(Device.node_id, func.count()).where(gpus).group_by(Device.node_id)).all()
    )
    held = select(Device.node_id, func.count()).join(LeaseGpu, LeaseGpu.device_id == Device.id)
    busy = dict(session.execute(held.where(LeaseGpu.released_at.is_(None)).group_by(Device.node_id)).all())
    there = GaugeMetricFamily("fleet_node_gpus", "GPUs that the node has.", labels=WHERE)
    leased = GaugeMetricFamily("fleet_node_gpus_leased", "GPUs that a lease holds.", labels=WHERE)
    for row in rows:
        there.add_metric(_at(row, where), have.get(row.id, 0))
        leased.add_metric(_at(row, where), busy.get(row.id, 0))
    yield from (there, leased)
    leases = GaugeMetricFamily("fleet_leases", "Leases that are held.", labels=("kind", "exclusive"))
    query = select(Device.kind, Lease.exclusive, func.count()).join(Device, Device.id == Lease.device_id)
    live = query.where(Lease.released_at.is_(None)).group_by(Device.kind, Lease.exclusive)
    found = {(kind, exclusive): count for kind, exclusive, count in session.execute(live)}
    found["gpu", True] = sum(busy.values())
    for kind in ("cpu", "gpu"):
        for exclusive in (False, True):
            leases.add_metric((kind, str(exclusive).lower()), found.get((kind, exclusive), 0))
    yield leases


def _findings(session: Session, rows: Sequence[Node], where: Mapping[int, Standpoint]) -> Iterator[Metric]:
    wrong = GaugeMetricFamily(
        "fleet_device_finding",
        "A device that is not well by its health verdict; always 1.",
        labels=(*WHERE, "device", "verdict", "action"),
    )
    by_verdict = GaugeMetricFamily("fleet_devices_unwell", "Devices by verdict.", labels=("verdict",))
    live = {row.id: row for row in rows}
    found = [row for row in faults.everywhere(session).values() if row.node_id in live]
    for row in found:
        at = _at(live[row.node_id], where)
        wrong.add_metric((*at, label(row.device), row.verdict, row.action), 1)
    counts = Counter(row.verdict for row in found)
    for verdict in faults.UNWELL:
        by_verdict.add_metric((str(verdict),), counts[str(verdict)])
    yield from (wrong, by_verdict)


def _racks(session: Session, rows: Sequence[Node], where: Mapping[int, Standpoint]) -> Iterator[Metric]:
    plate = GaugeMetricFamily(
        "fleet_node_nameplate_watts", "The most that the node draws, by its maker's word.", labels=WHERE
    )
    for row in rows:
        watts = where[row.id].nameplate_watts
        if watts is not None:
            plate.add_metric(_at(row, where), watts)
    budget = GaugeMetricFamily(
        "fleet_rack_power_budget_watts", "What the rack's nodes may draw together.", labels=("site", "rack")
    )
    for rack in session.scalars(select(Rack).where(Rack.power_budget_watts.is_not(None)).order_by(Rack.id)):
        budget.add_metric((label(rack.site), label(rack.name)), rack.power_budget_watts or 0.0)
    yield from (plate, budget)


def _jobs(session: Session, at: float) -> Iterator[Metric]:
    live = [state for state in JOB.states if state not in JOB.final]
    jobs = GaugeMetricFamily("fleet_jobs", "Jobs that have not ended.", labels=("tenant", "state"))
    query = select(Job.tenant, Job.state, func.count()).where(Job.state.in_(live))
    found = {
        (tenant, state): n for tenant, state, n in session.execute(query.group_by(Job.tenant, Job.state))
    }
    for tenant in sorted({tenant for tenant, _ in found} | {"default"}):
        for state in live:
            jobs.add_metric((label(tenant), str(state)), found.get((tenant, str(state)), 0))
    yield jobs
    oldest = session.scalar(select(func.min(Job.state_at)).where(Job.state == JobState.QUEUED))
    yield GaugeMetricFamily(
        "fleet_queue_oldest_seconds",
        "For how long the job that has waited longest has been in the queue; 0 when none waits.",
        value=0.0 if oldest is None else max(0.0, at - oldest),
    )


def _searches(session: Session) -> Iterator[Metric]:
    live = [state for state in SEARCH.states if state not in SEARCH.final]
    searches = GaugeMetricFamily("fleet_searches", "Searches that have not ended.", labels=("state",))
    query = select(Search.state, func.count()).where(Search.state.in_(live)).group_by(Search.state)
    found = dict(session.execute(query).all())
    for state in live:
        searches.add_metric((str(state),), found.get(str(state), 0))
    yield searches
    confirmed = TunedKernel.confirmed_at.is_not(None)
    known = dict(session.execute(select(confirmed, func.count()).group_by(confirmed)).all())
    kernels = GaugeMetricFamily(
        "fleet_tuned_kernels",
        "Tuned kernels, and whether a second node confirmed them.",
        labels=("confirmed",),
    )
    for each in (False, True):
        kernels.add_metric((str(each).lower(),), known.get(each, 0))
    yield kernels
