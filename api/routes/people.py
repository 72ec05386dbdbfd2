"""People: one act removes somebody everywhere."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import Path

from api.auth import PeopleAdmin
from api.body import StrictRoute
from api.deps import Writing
from api.routing import Router
from api.schemas import problems
from fleet import people
from fleet.db import now
from fleet.resources import RemovedPerson

router = Router(
    prefix="/v1/people", tags=["people"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


@router.delete("/{name}", summary="Remove a person everywhere", responses=problems(404))
def remove_person(
    principal: PeopleAdmin, session: Writing, name: Annotated[str, Path(min_length=1, max_length=400)]
) -> RemovedPerson:
    """Every token of this name, and every token minted with one of them, ends with the streams that it holds open;
    what they have queued or running is cancelled."""
    return RemovedPerson.model_validate(asdict(people.remove(session, name, principal, now(session))))
