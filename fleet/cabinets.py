"""Which rack a node stands in, as rows: what an operator says, and what a join token is bound to."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import events
from fleet.place_rows import Place, Rack


def rack(session: Session, site: str, name: str) -> Rack:
    """The rack of that name in that site, made if it is new."""
    found = session.scalars(select(Rack).where(Rack.site == site, Rack.name == name)).first()
    if found is None:
        found = Rack(site=site, name=name)
        session.add(found)
        session.flush()
    return found


def stand(
    session: Session, node_id: int, site: str, name: str, nameplate_watts: float | None, now: float
) -> None:
    """From now on the node stands in this rack; an event says so. `nameplate_watts`: the most that it draws."""
    cabinet = rack(session, site, name)
    place = session.get(Place, node_id)
    if place is None:
        session.add(Place(node_id=node_id, rack_id=cabinet.id, nameplate_watts=nameplate_watts))
    else:
        place.rack_id, place.nameplate_watts = cabinet.id, nameplate_watts
    session.flush()
    said = {"site": site, "rack": name, "nameplate_watts": nameplate_watts}
    events.append(session, "node.placed", f"node:{node_id}", said, now)
