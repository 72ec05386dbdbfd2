"""Write Grafana's dashboards: `python -m dashboards.build` makes dashboards/grafana/*.json anew from `boards`.

They are written with the Grafana Foundation SDK; the JSON is committed, so that nobody needs the SDK to use it.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    gauge,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as queries

from dashboards.boards import FLEET, NODE_BOARD, RACK_BOARD
from dashboards.device_boards import DRIVES, GPU_BOARD
from dashboards.panels import Board, Panel, Variable
from dashboards.work_boards import CONTROL_PLANE, JOBS, SEARCHES

FOLDER = Path(__file__).parent / "grafana"
BOARDS = (FLEET, RACK_BOARD, NODE_BOARD, GPU_BOARD, DRIVES, JOBS, SEARCHES, CONTROL_PLANE)
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHTS = {"stat": 4, "gauge": 6, "table": 9, "timeseries": 8, "states": 8}
BUILDERS = {
    "timeseries": timeseries.Panel,
    "stat": stat.Panel,
    "table": table.Panel,
    "gauge": gauge.Panel,
    "states": statetimeline.Panel,
}


def documents() -> Mapping[str, str]:
    """Each dashboard's JSON by its file's name."""
    return {f"{board.uid}.json": _text(board) for board in BOARDS}


def _text(board: Board) -> str:
    document = json.loads(JSONEncoder(sort_keys=True).encode(_dashboard(board).build()))
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _dashboard(board: Board) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["tinyfleet"])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in board.variables:
        made = made.with_variable(_variable(variable))
    return _with_panels(made, board)


def _with_panels(made: dashboard.Dashboard, board: Board) -> dashboard.Dashboard:
    number, top = 0, 0
    for row in board.rows:
        number += 1
        made = made.with_row(
            dashboard.Row(row.title).id(number).grid_pos(models.GridPos(h=1, w=24, x=0, y=top))
        )
        left, lowest = 0, 0
        top += 1
        for panel in row.panels:
            if left + panel.width > 24:
                top, left, lowest = top + lowest, 0, 0
            number += 1
            height = HEIGHTS[panel.kind]
            place = models.GridPos(h=height, w=panel.width, x=left, y=top)
            made = made.with_panel(_panel(panel).id(number).grid_pos(place))
            left, lowest = left + panel.width, max(lowest, height)
        top += lowest
    return made


def _variable(variable: Variable) -> dashboard.QueryVariable:
    made = (
        dashboard.QueryVariable(variable.name)
        .label(variable.name.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({variable.of}, {variable.label})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
        .multi(variable.many)
        .include_all(variable.many)
    )
    return made.all_value(".*") if variable.many else made


def _panel(panel: Panel) -> Any:
    made = (
        BUILDERS[panel.kind]().title(panel.title).description(panel.about).unit(panel.unit).datasource(SOURCE)
    )
    for letter, query in zip(string.ascii_uppercase, panel.queries, strict=False):
        target = (
            prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend or "__auto")
        )
        if panel.kind in ("table", "stat", "gauge"):
            target = target.instant()
        if panel.kind == "table":
            target = target.format(queries.PromQueryFormat.TABLE)
        made = made.with_target(target)
    if panel.most is not None or panel.unit == "percentunit":
        made = made.min(0)
    if panel.most is not None:
        made = made.max(panel.most)
    if panel.limits is not None:
        made = made.thresholds(_thresholds(*panel.limits))
    return _drawn(made, panel)


def _drawn(made: Any, panel: Panel) -> Any:
    if panel.kind == "timeseries":
        made = made.line_width(1).fill_opacity(30 if panel.stacked else 5)
        made = made.legend(
            common.VizLegendOptions()
            .display_mode(shapes.LegendDisplayMode.TABLE)
            .placement(shapes.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        if panel.stacked:
            made = made.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL))
    if panel.kind in ("stat", "gauge"):
        made = made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if panel.kind == "table" and len(panel.queries) > 1:
        made = made.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        for letter, query in zip(string.ascii_uppercase, panel.queries, strict=False):
            name = [models.DynamicConfigValue(id_val="displayName", value=query.legend)]
            made = made.override_by_name(f"Value #{letter}", name)
    return made


def _thresholds(yellow: float, red: float) -> dashboard.ThresholdsConfig:
    """Green, yellow and red in the direction in which it gets worse."""
    low, middle, high = ("green", "yellow", "red") if red >= yellow else ("red", "yellow", "green")
    first, second = sorted((yellow, red))
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps(
            [
                models.Threshold(value=None, color=low),
                models.Threshold(value=first, color=middle),
                models.Threshold(value=second, color=high),
            ]
        )
    )


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression as (where it is, what it says)."""
    for board in BOARDS:
        for row in board.rows:
            for panel in row.panels:
                for query in panel.queries:
                    yield f"{board.uid}: {panel.title}", query.expr


def write() -> None:
    """Write all of them, and remove what is no longer one."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
