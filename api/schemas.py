"""Shapes shared by several routes: problem documents and what a request may not contain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

PROBLEM_TYPE = "urn:tinyfleet:problem:"
MEDIA_TYPE = "application/problem+json"


class Request(BaseModel):
    """A request body: unknown fields are refused, so that a typo is an error and not a surprise."""

    model_config = ConfigDict(extra="forbid")


class FieldError(BaseModel):
    """One field that was not understood."""

    field: str = Field(examples=["spec.kernel.shape[0]"])
    message: str = Field(examples=["Input should be less than or equal to 1048576"])


class Problem(BaseModel):
    """An error, as RFC 9457 has it. Further members name what the error is about."""

    model_config = ConfigDict(extra="allow")
    type: str = Field(examples=["urn:tinyfleet:problem:not-found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["job 12 does not exist"])
    errors: list[FieldError] | None = Field(default=None, description="which fields were not understood")


class ProblemResponse(JSONResponse):
    """A problem document as a response."""

    media_type = MEDIA_TYPE


def problem_response(
    status: int,
    slug: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> ProblemResponse:
    """A problem document: `slug` makes its type; `members` say what it is about."""
    document = {**members, "type": PROBLEM_TYPE + slug, "title": title, "status": status, "detail": detail}
    return ProblemResponse(document, status_code=status, headers=headers)


_DESCRIPTIONS = {
    400: "the request could not be read",
    401: "no valid bearer token",
    403: "this principal may not do that",
    404: "there is no such thing",
    409: "it conflicts with the present state",
    413: "the body is too large",
    415: "the body is not sent as JSON, with `Content-Type: application/json`",
    422: "a field was not understood, or cannot be",
    429: "too many requests; Retry-After says when to ask again",
    500: "an error in the server",
    503: "the server cannot serve now",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can answer with these error statuses; whoever is known may ask too often."""
    known = (*statuses, 429) if 401 in statuses else statuses
    return {status: {"model": Problem, "description": _DESCRIPTIONS[status]} for status in known}


def binary(media_type: str) -> dict[str, Any]:
    """The OpenAPI of a body that is bytes and nothing else."""
    return {"required": True, "content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}
