"""Grafana's dashboards: what is committed is what is built, and every expression can be read."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dashboards import build
from dashboards.panels import Board
from tests.dashboards.expressions import parsed, substituted, within

FILES = {path.name: path for path in build.FOLDER.glob("*.json")}


def test_the_committed_dashboards_are_those_that_are_built() -> None:
    built = build.documents()
    assert FILES.keys() == built.keys()
    stale = [name for name, text in built.items() if FILES[name].read_text(encoding="utf-8") != text]
    assert stale == [], "run: python -m dashboards.build"


def panels(name: str) -> list[dict[str, Any]]:
    """The panels of a dashboard, without its rows."""
    document = json.loads(FILES[name].read_text(encoding="utf-8"))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("name", FILES)
def test_panels_have_ids_of_their_own_and_do_not_lie_on_each_other(name: str) -> None:
    found = panels(name)
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", FILES)
def test_targets_have_letters_of_their_own_and_ask_the_chosen_prometheus(name: str) -> None:
    for panel in panels(name):
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        assert panel["datasource"]["uid"] == "${datasource}"


def test_there_is_a_dashboard_for_each_noun() -> None:
    wanted = ["fleet", "rack", "node", "gpu", "drives", "jobs", "searches", "control-plane"]
    assert set(FILES) == {f"tinyfleet-{noun}.json" for noun in wanted}


@pytest.mark.parametrize("board", build.BOARDS, ids=lambda board: board.uid)
def test_the_utilization_shown_first_is_sm_active(board: Board) -> None:
    shown = [panel for row in board.rows for panel in row.panels]
    about_work = [
        each for each in shown if re.search(r"sm_active|busy_ratio|tensor_active", each.queries[0].expr)
    ]
    assert not about_work or "sm_active" in about_work[0].queries[0].expr


def test_dashboards_of_machines_choose_site_rack_and_node() -> None:
    chosen = {board.uid: [each.name for each in board.variables] for board in build.BOARDS}
    assert chosen["tinyfleet-fleet"] == chosen["tinyfleet-rack"] == ["site", "rack"]
    assert chosen["tinyfleet-node"] == chosen["tinyfleet-drives"] == ["site", "rack", "node"]
    assert chosen["tinyfleet-gpu"] == ["site", "rack", "node", "gpu"]


def test_every_expression_can_be_read() -> None:
    for where, expr in build.expressions():
        assert parsed(expr) is not None, where
        assert "$" not in substituted(expr), f"{where}: a variable that no test substitutes"


def test_what_cannot_be_read_is_noticed() -> None:
    with pytest.raises(ValueError):
        parsed("sum by (node (fleet_gpu_up)")


@pytest.mark.parametrize(
    ("expr", "parts"),
    [
        ("a > 3", ["a"]),
        ("a > 1 and on (node) b == 0", ["a", "b"]),
        ("(a or b) unless c", ["a", "b", "c"]),
        ("rate(a[5m]) * 2 > 0.1 * b", ["rate(a[5m]) * 2", "0.1 * b"]),
        ("sum(a == 1)", ["sum(a == 1)"]),
    ],
)
def test_what_an_alert_looks_at_is_found_within_it(expr: str, parts: list[str]) -> None:
    assert [part.replace("{}", "") for part in within(expr)] == parts
