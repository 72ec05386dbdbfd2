"""Is the process alive, and can it serve? Both without a token, and without a detail that helps a stranger."""

from __future__ import annotations

from pydantic import BaseModel

from api.deps import PartsDep
from api.routing import Router
from api.schemas import problems
from fleet.db import check

router = Router(tags=["health"])


class Health(BaseModel):
    """The server answers."""

    status: str = "ok"


@router.get("/livez", summary="The process is alive")
async def livez() -> Health:
    """Answers as long as the event loop turns; looks at nothing else."""
    return Health()


@router.get("/readyz", summary="The server can serve", responses=problems(503))
def readyz(parts: PartsDep) -> Health:
    """Answers when the database does."""
    with parts.read() as session:
        check(session)
    return Health()
