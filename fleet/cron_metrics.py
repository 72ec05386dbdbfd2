"""The metrics of crons and webhooks, read from the database at scrape time. Crons that are paused are not in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet.cron_rows import HEALTHS
from fleet.models import Cron, CronPoint, CronRun, Delivery, Webhook
from fleet.redaction import label
from fleet.webhook_plan import DeliveryState

CRON = ("tenant", "cron")


def metrics(session: Session) -> Iterator[Metric]:
    """How crons stand, and what waits on its way to webhooks."""
    live = Cron.removed_at.is_(None) & Cron.paused_at.is_(None)
    rows = session.scalars(select(Cron).where(live).order_by(Cron.id)).all()
    yield from _crons(rows)
    yield _regressed(session, rows)
    yield from _deliveries(session)


def _crons(rows: Sequence[Cron]) -> Iterator[Metric]:
    health = GaugeMetricFamily(
        "fleet_cron_health",
        "1 for the health that the cron has: ok, failing or stalled.",
        labels=(*CRON, "health"),
    )
    failures = GaugeMetricFamily("fleet_cron_failures", "Runs that failed in a row.", labels=CRON)
    success = GaugeMetricFamily(
        "fleet_cron_last_success_timestamp_seconds", "When a run ended well last; 0 before.", labels=CRON
    )
    due = GaugeMetricFamily("fleet_cron_next_timestamp_seconds", "When it is due next.", labels=CRON)
    for row in rows:
        named = (label(row.tenant), label(row.name))
        for each in HEALTHS:
            health.add_metric((*named, each), row.health == each)
        failures.add_metric(named, row.failures)
        success.add_metric(named, row.last_success_at or 0.0)
        if row.next_at is not None:
            due.add_metric(named, row.next_at)
    yield from (health, failures, success, due)


def _regressed(session: Session, rows: Sequence[Cron]) -> Metric:
    """By the last run that declared numbers."""
    found = GaugeMetricFamily(
        "fleet_cron_series_regressed",
        "1 for a series whose newest number is worse than its baseline.",
        labels=(*CRON, "series"),
    )
    named = {row.id: (label(row.tenant), label(row.name)) for row in rows}
    newest = (
        select(func.max(CronRun.id)).join(CronPoint, CronPoint.run_id == CronRun.id).group_by(CronRun.cron_id)
    )
    worse = CronPoint.run_id.in_(newest) & (CronPoint.verdict == "regressed")
    for point in session.scalars(select(CronPoint).where(worse).order_by(CronPoint.cron_id, CronPoint.name)):
        if point.cron_id in named:
            found.add_metric((*named[point.cron_id], label(point.name)), 1)
    return found


def _deliveries(session: Session) -> Iterator[Metric]:
    count = GaugeMetricFamily(
        "fleet_webhook_deliveries", "Deliveries that are kept, by state.", labels=("state",)
    )
    query = select(Delivery.state, func.count()).group_by(Delivery.state)
    found = dict(session.execute(query).all())
    for state in DeliveryState:
        count.add_metric((str(state),), found.get(str(state), 0))
    yield count
    disabled = select(func.count()).select_from(Webhook)
    live = Webhook.removed_at.is_(None) & Webhook.disabled_at.is_not(None)
    yield GaugeMetricFamily(
        "fleet_webhooks_disabled",
        "Webhooks that nothing is sent to until somebody enables them.",
        value=session.scalar(disabled.where(live)) or 0,
    )
