"""The stock: every box by model, serial, state and place, whether it is a node or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet import box_models, events, permissions
from fleet.errors import AlreadyExists, InvalidSpec, NotFound
from fleet.firing import amend, fire
from fleet.lifecycle_boxes import BOX, BOX_EVENTS, BoxState
from fleet.models import Box
from fleet.principals import Principal


def get(session: Session, box_id: int) -> Box:
    """The box, or NotFound."""
    found = session.get(Box, box_id)
    if found is None:
        raise NotFound("box", box_id)
    return found


def page(session: Session, after: int | None = None, limit: int = 50, **wanted: str | None) -> Sequence[Box]:
    """Boxes with ids above `after`, in order of id; of this `serial`, `model`, `state`, `place`, `node`, where given."""
    query = select(Box).where(Box.id > (after or 0)).order_by(Box.id).limit(limit)
    for name, value in wanted.items():
        if value is not None:
            query = query.where(getattr(Box, name) == value)
    return session.scalars(query).all()


def counts(session: Session) -> Sequence[tuple[str, str, str, int]]:
    """How many there are of each model, in each state, at each place."""
    columns = (Box.model, Box.state, Box.place)
    query = select(*columns, func.count()).group_by(*columns).order_by(*columns)
    return [(model, state, place, count) for model, state, place, count in session.execute(query)]


def add(
    session: Session,
    *,
    serial: str,
    model: str,
    principal: Principal,
    now: float,
    state: BoxState = BoxState.STORED,
    place: str = "",
    node: str | None = None,
    note: str = "",
) -> Box:
    """A box more. AlreadyExists for its serial or its node, InvalidSpec for a model that nobody has described."""
    permissions.require(principal, permissions.Permission.OPERATE)
    _check_model(session, model)
    if session.scalars(select(Box).where(Box.serial == serial)).first() is not None:
        raise AlreadyExists("box", serial, "a serial is one box's: move that one instead")
    _check_node(session, node, None)
    row = Box(
        serial=serial,
        model=model,
        state=str(state),
        state_at=now,
        place=place,
        node=node,
        note=note,
        added_at=now,
        added_by=str(principal),
    )
    session.add(row)
    session.flush()
    data = {"serial": serial, "model": model, "state": str(state), "place": place, "node": node}
    events.append(session, "box.added", f"box:{row.id}", data, now)
    events.audit(session, principal, "box.add", f"box:{row.id}", data, now)
    return row


def move(session: Session, box_id: int, principal: Principal, now: float, changes: Mapping[str, Any]) -> Box:
    """Change what is given of `state`, `place`, `node`, `note`, `model`. InvalidTransition, AlreadyExists, InvalidSpec."""
    permissions.require(principal, permissions.Permission.OPERATE)
    row = get(session, box_id)
    others = {name: value for name, value in changes.items() if name != "state"}
    state = changes.get("state")
    if not others and state is None:
        raise InvalidSpec("state", "say what changes: state, place, node, note or model")
    if "model" in others:
        _check_model(session, str(others["model"]))
    if others.get("node") is not None:
        _check_node(session, str(others["node"]), row.id)
    if state is not None and state != row.state:
        event = BOX_EVENTS.get(BoxState(state))
        if event is None:
            raise InvalidSpec("state", f"a box that is {row.state} is not {state} again")
        fire(session, BOX, row, event, now, **others)
    elif others:
        amend(session, "box", row, others)
    said = {"serial": row.serial, **changes}
    events.append(session, "box.moved", f"box:{row.id}", said, now)
    events.audit(session, principal, "box.move", f"box:{row.id}", said, now)
    return row


def _check_model(session: Session, model: str) -> None:
    try:
        box_models.get(session, model)
    except NotFound as error:
        raise InvalidSpec("model", f"nobody has described {model}; {box_models.known(session)}") from error


def _check_node(session: Session, node: str | None, box_id: int | None) -> None:
    if node is None:
        return
    taken = select(Box).where(Box.node == node, Box.state != BoxState.SCRAPPED, Box.id != (box_id or 0))
    other = session.scalars(taken).first()
    if other is not None:
        raise AlreadyExists("box", node, f"box {other.serial} is that node: take its node off first")
