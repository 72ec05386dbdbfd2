"""The wire about versions: what a node is asked to run, and how far it is with it. Part of `Observed` and `Desired`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ReleaseVersion = Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6}){1,3}((a|b|rc)[0-9]{1,6})?$")]


class UpdateReport(BaseModel):
    """How far a node is with the version that it was asked to run. One that failed is repeated until another is wanted."""

    model_config = ConfigDict(extra="forbid")
    version: ReleaseVersion
    state: Literal["fetching", "staged", "failed"]
    error: str = Field(default="", max_length=2000)


class UpdateSpec(BaseModel):
    """The version that a node shall run from when it has no attempts on; its files are at /v1/releases/VERSION/."""

    model_config = ConfigDict(extra="forbid")
    version: ReleaseVersion
