"""Who may ask is settled by a request's head, before anything of its body is read.

FastAPI reads and parses a body before it asks a dependency: whoever has no token could have the server build a document of
31 MiB, and wait with it. A dependency that is a gate is asked by the route first (`api.body.StrictRoute`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant


class Gate(ABC):
    """A dependency that says who may come in."""

    @abstractmethod
    async def admit(self, request: Request) -> None:
        """Raise what is answered to whoever may not; note in the request's state what the dependency gives later."""

    async def still(self, request: Request) -> None:  # noqa: B027 - who comes in once is not asked again
        """Raise what is answered to whoever was let in, and may come in no longer."""


def calls_of(dependant: Dependant) -> Iterator[object]:
    """All that a route depends on, in the order in which FastAPI asks."""
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from calls_of(dependency)


def gates_of(dependant: Dependant) -> tuple[Gate, ...]:
    """A route's gates, each once."""
    return tuple(dict.fromkeys(call for call in calls_of(dependant) if isinstance(call, Gate)))
