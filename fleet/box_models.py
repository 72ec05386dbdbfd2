"""Models of boxes: what one of each must be."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet import events, permissions
from fleet.box_limits import Limits
from fleet.box_rows import BoxModelRow
from fleet.errors import InvalidSpec, NotFound
from fleet.models import Box
from fleet.principals import Principal

_SHOWN = 10


def get(session: Session, name: str) -> BoxModelRow:
    """The model of that name, or NotFound."""
    found = session.scalars(select(BoxModelRow).where(BoxModelRow.name == name)).one_or_none()
    if found is None:
        raise NotFound("box model", name)
    return found


def limits(row: BoxModelRow) -> Limits:
    """What a box of the model must be."""
    return Limits.model_validate(row.limits)


def page(session: Session, after: int | None = None, limit: int = 50) -> Sequence[BoxModelRow]:
    """Models with ids above `after`, in order of id."""
    query = select(BoxModelRow).where(BoxModelRow.id > (after or 0)).order_by(BoxModelRow.id)
    return session.scalars(query.limit(limit)).all()


def known(session: Session) -> str:
    """What there is, as a refusal lists it."""
    names = session.scalars(select(BoxModelRow.name).order_by(BoxModelRow.name).limit(_SHOWN)).all()
    return f"there is {', '.join(names)}" if names else "there is none: tinyfleet box-models set"


def put(session: Session, name: str, wanted: Limits, principal: Principal, now: float) -> BoxModelRow:
    """Say what a box of a model must be, all of it. Nodes are held against it the next time that somebody asks."""
    permissions.require(principal, permissions.Permission.OPERATE)
    row = session.scalars(select(BoxModelRow).where(BoxModelRow.name == name)).one_or_none()
    said = wanted.model_dump(mode="json", exclude_none=True)
    if row is None:
        row = BoxModelRow(name=name, limits=said, updated_at=now, updated_by=str(principal))
        session.add(row)
    else:
        row.limits, row.updated_at, row.updated_by = said, now, str(principal)
    session.flush()
    events.audit(session, principal, "box-model.put", f"box-model:{row.id}", {"name": name, **said}, now)
    return row


def remove(session: Session, name: str, principal: Principal, now: float) -> None:
    """Forget a model. InvalidSpec while boxes are of it."""
    permissions.require(principal, permissions.Permission.OPERATE)
    row = get(session, name)
    held = session.scalar(select(func.count()).select_from(Box).where(Box.model == name)) or 0
    if held:
        raise InvalidSpec("model", f"{held} boxes of the stock are of {name}: it stays as long as they do")
    session.delete(row)
    session.flush()
    events.audit(session, principal, "box-model.remove", f"box-model:{row.id}", {"name": name}, now)
