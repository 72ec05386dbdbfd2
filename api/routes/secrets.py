"""Secrets that the control plane uses for a tenant: set, listed, removed, and never returned."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import Path, Query, Response
from pydantic import Field

from api.auth import SecretAdmin
from api.body import StrictRoute
from api.deps import PartsDep, Reading, Writing
from api.pages import LONGEST_PAGE
from api.routing import Router
from api.schemas import Request, problems
from fleet import secrets_kept
from fleet.db import now
from fleet.resources import Secret, SecretPage

router = Router(
    prefix="/v1/secrets", tags=["secrets"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
SecretName = Annotated[
    str,
    Path(alias="secret", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="letters, digits, . _ -"),
]


class SecretRequest(Request):
    """A value to keep."""

    value: Annotated[str, Field(min_length=1, max_length=secrets_kept.LONGEST_VALUE)]


@router.get("", summary="List secrets, without their values")
def list_secrets(
    principal: SecretAdmin,
    session: Reading,
    after: Annotated[str, Query(max_length=64, description="the `next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="how many items at most")] = 50,
) -> SecretPage:
    """In order of names."""
    rows = secrets_kept.page(session, principal.tenant, after, limit)
    return SecretPage(
        items=[Secret.model_validate(row) for row in rows], next=rows[-1].name if len(rows) == limit else None
    )


@router.put("/{secret}", summary="Keep a secret", responses=problems(413, 415))
def put_secret(
    principal: SecretAdmin, session: Writing, parts: PartsDep, name: SecretName, request: SecretRequest
) -> Secret:
    """In place of the value before. It is encrypted here and shown to nobody."""
    keys = secrets_kept.keys(parts.settings.fleet.secret_keys_file, os.environ)
    return Secret.model_validate(
        secrets_kept.put(session, name, request.value, keys, principal, now(session))
    )


@router.delete("/{secret}", status_code=204, summary="Forget a secret", responses=problems(404))
def delete_secret(principal: SecretAdmin, session: Writing, name: SecretName) -> Response:
    """What uses it fails from then on."""
    secrets_kept.remove(session, name, principal, now(session))
    return Response(status_code=204)
