"""Nodes held against the limits of their model: what is asked, what was found, and the verdict with its cordon.

The comparison is in fleet/box_limits.py. Until a node is accepted it is cordoned; burn-ins go there all the same.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import box_models, cordons, events, gpu_ticks, gpus, nodes, permissions
from fleet.box_limits import Burnt, Found, FoundGpu, Line, compare, reason
from fleet.cordoning import CordonKind
from fleet.db import now as database_now
from fleet.errors import InvalidSpec, InvalidTransition, NotFound, StaleWrite
from fleet.expositions import Reader, Sample
from fleet.firing import amend, fire
from fleet.lifecycle import NodeState
from fleet.lifecycle_boxes import ACCEPTANCE, AcceptanceEvent, AcceptanceState
from fleet.lifecycle_gpus import GpuState
from fleet.models import Acceptance, Box, Device, Job, Node, NodeCordon
from fleet.principals import Principal
from fleet.readings import gpu_name

log = logging.getLogger(__name__)
METRICS_WITHIN_S = 60.0
_WIDTH, _GENERATION = "fleet_gpu_pcie_link_width", "fleet_gpu_pcie_link_generation"
_HEAT, _CAPACITY, _UP = "fleet_gpu_temperature_celsius", "fleet_drive_capacity_bytes", "fleet_drive_up"
READER = Reader(_WIDTH, _GENERATION, _HEAT, _CAPACITY, _UP)
_FINAL = ("succeeded", "failed", "cancelled")
OpenSession = Callable[[], AbstractContextManager[Session]]


class Said(Protocol):
    """A node's latest metrics."""

    packed: bytes
    received_at: float


Latest = Callable[[int], Any]  # a node's id → its latest metrics (Said), or None


# ------------------------------------------------------------------------------------------------- ask


def of(session: Session, node_id: int) -> Acceptance:
    """The last time that a node was held against a model, or NotFound."""
    nodes.get(session, node_id)
    found = session.get(Acceptance, node_id)
    if found is None:
        raise NotFound("acceptance", node_id)
    return found


def page(
    session: Session, after: int | None = None, limit: int = 50, state: str | None = None
) -> Sequence[tuple[Acceptance, str]]:
    """The last verdicts on nodes with ids above `after`, in order of id, each with its node's name."""
    query = select(Acceptance, Node.name).join(Node, Node.id == Acceptance.id).order_by(Acceptance.id)
    query = query.where(Acceptance.id > (after or 0)).limit(limit)
    if state is not None:
        query = query.where(Acceptance.state == state)
    return [(row, name) for row, name in session.execute(query)]


def ask(session: Session, node_id: int, model: str | None, principal: Principal, now: float) -> Acceptance:
    """Hold a node against a model: its own when none is named. It takes no new work until it is accepted.

    NotFound, NotPermitted; InvalidSpec when no model is known; InvalidTransition while it is being measured.
    """
    permissions.require(principal, permissions.Permission.OPERATE)
    node = nodes.get(session, node_id)
    name = model or _model_of(session, node)
    if name is None:
        raise InvalidSpec("model", f"none is known for {node.name}: name one; {box_models.known(session)}")
    box_models.get(session, name)
    if node.state != NodeState.READY:
        raise InvalidTransition("node", node.state, "acceptance", ("it once it is ready",))
    row = begin(session, node, name, str(principal), now)
    events.audit(session, principal, "node.accept", f"node:{node_id}", {"model": name}, now)
    return row


def _model_of(session: Session, node: Node) -> str | None:
    row = session.get(Acceptance, node.id)
    return row.model if row is not None else session.scalar(select(Box.model).where(Box.node == node.name))


def begin(session: Session, node: Node, model: str, by: str, now: float) -> Acceptance:
    """Cordon the node and queue its burn-ins."""
    row = session.get(Acceptance, node.id)
    if row is None:
        row = Acceptance(
            id=node.id, model=model, state=ACCEPTANCE.initial, state_at=now, asked_at=now, asked_by=by
        )
        session.add(row)
        session.flush()
    else:
        fire(session, ACCEPTANCE, row, AcceptanceEvent.ASK, now, model=model, asked_at=now, asked_by=by)
    cordons.put(session, node.id, CordonKind.ACCEPTANCE, f"it is being held against model {model}", now)
    ladders = gpus.ladders(session, [node.id])
    burnt: dict[str, int] = {}
    for device in nodes.devices(session, node.id):
        if device.present and gpus.standing(ladders.get(device.id))[0] == GpuState.OK:
            gpu = device.name if device.kind == "gpu" else None
            burnt[device.name] = gpu_ticks.burn(session, node.id, gpu, now).id
    amend(session, "acceptance", row, {"jobs": burnt, "lines": []})
    return row


# ------------------------------------------------------------------------------------------------ tick


def tick(read: OpenSession, write: OpenSession, latest: Latest, now: float | None = None) -> int:
    """Begin for nodes that have joined as a box of the stock, and decide for those that are measured; how many."""
    with read() as session:
        at = database_now(session) if now is None else now
        joined = _joined(session)
        query = select(Acceptance.id).where(Acceptance.state == AcceptanceState.MEASURING)
        measured = session.scalars(query).all()
    done = 0
    for node_id, model in joined:
        done += _written(write, partial(_begin_joined, node_id=node_id, model=model, now=at))
    for node_id in measured:
        done += _written(write, partial(_decide, node_id=node_id, said=latest(node_id), now=at))
    return done


def _written(write: OpenSession, action: Callable[[Session], bool]) -> int:
    try:
        with write() as session:
            return int(action(session))
    except (StaleWrite, InvalidTransition, InvalidSpec, NotFound) as error:
        log.info("dropped a step of an acceptance: %s", error)
        return 0


def _joined(session: Session) -> Sequence[tuple[int, str]]:
    """Nodes that enrolment cordoned, because they are boxes of the stock, and that have reported since."""
    query = (
        select(Node.id, Box.model)
        .join(NodeCordon, NodeCordon.node_id == Node.id)
        .join(Box, Box.node == Node.name)
        .outerjoin(Acceptance, Acceptance.id == Node.id)
        .where(NodeCordon.kind == CordonKind.ACCEPTANCE, Acceptance.id.is_(None))
        .where(Node.state == NodeState.READY, Box.state != "scrapped")
    )
    return [(node_id, model) for node_id, model in session.execute(query)]


def _begin_joined(session: Session, node_id: int, model: str, now: float) -> bool:
    if session.get(Acceptance, node_id) is not None:
        return False
    begin(session, nodes.get(session, node_id), model, "server:enrolment", now)
    return True


def _decide(session: Session, node_id: int, said: Said | None, now: float) -> bool:
    row = of(session, node_id)
    jobs = {name: session.get(Job, job_id) for name, job_id in row.jobs.items()}
    if row.state != AcceptanceState.MEASURING or any(
        job and job.state not in _FINAL for job in jobs.values()
    ):
        return False
    ended = max([job.finished_at or 0.0 for job in jobs.values() if job], default=row.asked_at)
    fresh = said is not None and said.received_at >= row.asked_at
    if not fresh and now - ended < METRICS_WITHIN_S:
        return False  # a node pushes every few seconds: what it says is waited for
    samples = _samples(said) if said is not None and fresh else None
    found = found_at(session, nodes.get(session, node_id), jobs, samples)
    _conclude(session, row, _lines(session, row, found), now)
    _blame(session, node_id, jobs, now)
    return True


def _lines(session: Session, row: Acceptance, found: Found) -> Sequence[Line]:
    try:
        return compare(box_models.limits(box_models.get(session, row.model)), found)
    except NotFound as error:
        return [Line("model", row.model, str(error), False, "describe it: tinyfleet box-models set")]


def _samples(said: Said) -> Sequence[Sample]:
    return tuple(READER.read(gzip.decompress(said.packed).decode()))


def _conclude(session: Session, row: Acceptance, lines: Sequence[Line], now: float) -> None:
    accepted = all(line.ok for line in lines)
    event = AcceptanceEvent.ACCEPT if accepted else AcceptanceEvent.REFUSE
    fire(session, ACCEPTANCE, row, event, now, lines=[asdict(line) for line in lines])
    if accepted:
        cordons.lift(session, row.id, CordonKind.ACCEPTANCE, now)
    else:
        cordons.put(session, row.id, CordonKind.ACCEPTANCE, reason(row.model, lines), now)
    wrong = [asdict(line) for line in lines if not line.ok]
    events.append(
        session, f"node.{row.state}", f"node:{row.id}", {"model": row.model, "wrong": wrong[:20]}, now
    )


def _blame(session: Session, node_id: int, jobs: Mapping[str, Job | None], now: float) -> None:
    """A GPU that failed its burn-in takes no work elsewhere either."""
    for device in nodes.devices(session, node_id):
        job = jobs.get(device.name)
        if device.kind == "gpu" and job is not None and job.state == "failed" and job.outcome == "failed":
            gpus.blame(session, device, f"its burn-in failed: {job.error}", now)


# ----------------------------------------------------------------------------------------------- found


def found_at(
    session: Session, node: Node, jobs: Mapping[str, Job | None], samples: Sequence[Sample] | None
) -> Found:
    """A node as its inventory, its metrics (None: it sent none) and its burn-ins say."""
    ladders = gpus.ladders(session, [node.id])
    mine = [device for device in nodes.devices(session, node.id) if device.present]
    by_gpu = {name: _of_gpus(samples or (), name) for name in (_WIDTH, _GENERATION, _HEAT)}
    gone = {_serial(each) for each in samples or () if each.name == _UP and each.value == 0}
    drives = {_serial(each): int(each.value) for each in samples or () if each.name == _CAPACITY}
    return Found(
        cores=node.cores,
        memory_bytes=node.memory_bytes,
        gpus=tuple(
            FoundGpu(
                name=device.name,
                model=device.model,
                arch=device.arch,
                memory_bytes=device.memory_bytes,
                link_width=_whole(by_gpu[_WIDTH].get(device.name)),
                link_generation=_whole(by_gpu[_GENERATION].get(device.name)),
                temperature=by_gpu[_HEAT].get(device.name),
                burnt=_burnt(device, jobs.get(device.name), gpus.standing(ladders.get(device.id))[1]),
            )
            for device in sorted(mine, key=lambda device: (len(device.name), device.name))
            if device.kind == "gpu"
        ),
        drives=None if samples is None else {key: size for key, size in drives.items() if key not in gone},
        cpu=next(
            (_burnt(each, jobs.get(each.name), "") for each in mine if each.kind == "cpu"), Burnt("none")
        ),
    )


def _of_gpus(samples: Sequence[Sample], name: str) -> Mapping[str, float]:
    """The largest value of each GPU."""
    found: dict[str, float] = {}
    for each in samples:
        if each.name == name and each.value == each.value:
            found[gpu_name(each)] = max(each.value, found.get(gpu_name(each), each.value))
    return found


def _serial(sample: Sample) -> str:
    return sample.label("serial") or sample.label("device")


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _burnt(device: Device, job: Job | None, out: str) -> Burnt:
    if job is None:
        return Burnt(out or "it was not tested")
    if job.state != "succeeded":
        return Burnt(job.error or f"the burn-in was {job.state}")
    said = job.result or {}
    return Burnt(
        rate=said.get("rate"),
        link_width=said.get("link_width"),
        link_generation=said.get("link_generation"),
        temperature=said.get("temperature_celsius"),
    )
