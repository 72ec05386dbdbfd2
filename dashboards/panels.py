"""What a dashboard consists of, as plain values: `build.py` turns them into Grafana's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["timeseries", "stat", "table", "gauge", "states"]


@dataclass(frozen=True)
class Query:
    """One expression of a panel and what its series are called (`{{label}}` is filled in)."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture. `width` is of 24; `limits` are where the colour turns yellow and red; `about` says what it means."""

    title: str
    kind: Kind
    queries: Sequence[Query]
    unit: str = "short"
    about: str = ""
    width: int = 12
    most: float | None = None
    limits: tuple[float, float] | None = None
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of the page: the values of `label` in the series that `of` selects."""

    name: str
    label: str
    of: str
    many: bool = True


@dataclass(frozen=True)
class Board:
    """One dashboard; its file and its address are `uid`."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = field(default_factory=tuple)


UP = 'up{job="tinyfleet-nodes"}'
SITE = Variable("site", "site", UP)
RACK = Variable("rack", "rack", 'up{job="tinyfleet-nodes",site=~"$site"}')
NODE = Variable("node", "node", 'up{job="tinyfleet-nodes",site=~"$site",rack=~"$rack"}')
ONE_NODE = Variable("node", "node", 'up{job="tinyfleet-nodes",site=~"$site",rack=~"$rack"}', many=False)
GPU = Variable("gpu", "gpu", 'fleet_gpu_up{node=~"$node"}')
# What the choices select.
RACKS = 'site=~"$site",rack=~"$rack"'
NODES = f'{RACKS},node=~"$node"'
GPUS = f'{NODES},gpu=~"$gpu"'


def one(
    title: str, kind: Kind, expr: str, legend: str = "", unit: str = "short", about: str = "", **more: object
) -> Panel:
    """A panel of one expression."""
    return Panel(title, kind, (Query(expr, legend),), unit, about, **more)  # type: ignore[arg-type]
