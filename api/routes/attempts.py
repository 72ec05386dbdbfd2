"""Attempts as jobs show them: each try at a job."""

from __future__ import annotations

from collections.abc import Sequence

from fleet import leases, models, nodes
from fleet.db import Session
from fleet.resources import Attempt


def attempt_resources(session: Session, attempts: Sequence[models.Attempt]) -> list[Attempt]:
    """Attempts as the API shows them, with the names of their nodes and devices."""
    names = nodes.names(session, [attempt.node_id for attempt in attempts])
    devices = nodes.device_names(session, [attempt.device_id for attempt in attempts])
    fences = leases.fences(session, [attempt.id for attempt in attempts])
    gpus = leases.gpu_names(session, fences.values())
    return [
        _attempt(
            each,
            node=names[each.node_id],
            device=devices[each.device_id],
            fence=fences[each.id],
            gpus=gpus.get(fences[each.id], []),
        )
        for each in attempts
    ]


def _attempt(attempt: models.Attempt, **named: object) -> Attempt:
    columns = {column: getattr(attempt, column) for column in Attempt.model_fields if column not in named}
    return Attempt.model_validate({**columns, **named})
