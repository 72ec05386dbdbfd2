"""The router of every route: it refuses to register one that does not say who may use it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute

from api import auth
from api.gates import gates_of

# Routes that answer without a token; besides these only the console's static files do.
# What a machine asks before it is a node: the installer, and the files of a signed release.
INSTALLING = frozenset({"/install.sh", "/v1/releases/{version}/{file}"})
PUBLIC = frozenset({"/livez", "/readyz"}) | INSTALLING
# Routes that take a secret which is not a principal's: enrolment spends a join token.
JOINING = frozenset({"/v1/agents/enroll"})


class UndeclaredAccess(Exception):
    """A route says nothing about who may use it."""


def check_declared(route: APIRoute) -> None:
    """Raises UndeclaredAccess for a route that is not public and declares no permission."""
    if len(gates_of(route.dependant)) > 1:  # a signature's nonce is spent by the first
        raise UndeclaredAccess(
            f"{sorted(route.methods or ())} {route.path} declares more than one who may use it"
        )
    joining = route.path in JOINING and auth.takes_secret(route)
    if not (auth.permission_of(route) or joining or route.path in PUBLIC):
        raise UndeclaredAccess(f"{sorted(route.methods or ())} {route.path} declares nobody who may use it")


class Router(APIRouter):
    """A router whose every route declares a permission, by one of the annotations in `api.auth`."""

    def add_api_route(self, path: str, endpoint: Any, **options: Any) -> None:
        """Register a route. Raises UndeclaredAccess."""
        super().add_api_route(path, endpoint, **options)
        route = self.routes[-1]
        assert isinstance(route, APIRoute)
        check_declared(route)
