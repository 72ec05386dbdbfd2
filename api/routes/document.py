"""The API's own description."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from api.auth import Reader
from api.body import StrictRoute
from api.schemas import problems

router = APIRouter(
    prefix="/v1", tags=["document"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


@router.get("/openapi.json", summary="This API as an OpenAPI document")
async def openapi(principal: Reader, request: Request) -> dict[str, Any]:
    """Every route with its shapes and its errors."""
    document: dict[str, Any] = request.app.openapi()
    return document
