"""What the API answers about boxes: models, nodes held against them, and the stock."""

from __future__ import annotations

from pydantic import Field

from fleet.box_limits import Limits
from fleet.resources import Resource, Timestamp


class BoxModel(Resource):
    """A model of box, and what one of it must be."""

    id: int
    name: str
    limits: Limits
    updated_at: Timestamp
    updated_by: str


class AcceptanceLine(Resource):
    """One limit held against one device."""

    what: str = Field(examples=["gpu3 PCIe width"])
    want: str = Field(examples=["at least x16"])
    have: str = Field(examples=["x8"])
    ok: bool
    fix: str = Field(default="", description="what to do; empty when it is ok")


class Acceptance(Resource):
    """A node held against a model, the last time."""

    node: str
    model: str
    state: str = Field(description="measuring, accepted or refused")
    asked_at: Timestamp
    asked_by: str
    decided_at: Timestamp | None = None
    lines: list[AcceptanceLine] = Field(default_factory=list)
    jobs: dict[str, int] = Field(default_factory=dict, description="its burn-ins, by device")


class Box(Resource):
    """A box of the stock."""

    id: int
    serial: str
    model: str
    state: str = Field(description="ordered, stored, installed, repair or scrapped")
    state_at: Timestamp
    place: str = ""
    node: str | None = Field(default=None, description="the name of the node that it is, or will be")
    note: str = ""
    added_at: Timestamp
    added_by: str


class BoxCount(Resource):
    """How many boxes of a model are in a state at a place."""

    model: str
    state: str
    place: str
    boxes: int


class BoxCounts(Resource):
    """The stock in short."""

    items: list[BoxCount]
