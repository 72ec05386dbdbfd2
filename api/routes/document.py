"""The API's own description."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Reader
from api.body import StrictRoute
from api.routing import Router
from api.schemas import problems

router = Router(
    prefix="/v1", tags=["document"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


class Info(BaseModel):
    """What the API is called, and the server's version."""

    model_config = ConfigDict(extra="allow")
    title: str
    version: str


class OpenApi(BaseModel):
    """An OpenAPI document."""

    model_config = ConfigDict(extra="allow")
    openapi: str = Field(description="the version of the OpenAPI specification", examples=["3.1.0"])
    info: Info
    paths: dict[str, dict[str, Any]] = Field(description="by path and method, what a route takes and answers")
    components: dict[str, dict[str, Any]] = Field(description="the schemas that routes refer to")


@router.get("/openapi.json", summary="This API as an OpenAPI document")
async def openapi(principal: Reader, request: Request) -> OpenApi:
    """Every route with its shapes and its errors."""
    return OpenApi.model_validate(request.app.openapi())
