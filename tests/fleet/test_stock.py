"""The stock: boxes by model, serial, state and place."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from fleet import box_models, stock
from fleet.box_limits import Limits
from fleet.errors import AlreadyExists, InvalidSpec, InvalidTransition, NotFound, NotPermitted
from fleet.lifecycle_boxes import BoxState
from fleet.models import Box
from fleet.principals import Principal


@pytest.fixture
def described(session: Session, admin: Principal, now: float) -> Session:
    """A session in which the model h200x8 is described."""
    box_models.put(session, "h200x8", Limits(gpus=8), admin, now)
    return session


def add(session: Session, admin: Principal, now: float, serial: str, **said: object) -> Box:
    return stock.add(session, serial=serial, model="h200x8", principal=admin, now=now, **said)  # type: ignore[arg-type]


def test_boxes_are_found_and_counted_by_what_they_are(
    described: Session, admin: Principal, now: float
) -> None:
    for number in range(3):
        add(described, admin, now, f"S{number}", place="shelf 3")
    add(described, admin, now, "S9", state=BoxState.INSTALLED, place="berlin/r1", node="tiny1")
    assert [box.serial for box in stock.page(described, state="stored")] == ["S0", "S1", "S2"]
    assert [box.serial for box in stock.page(described, node="tiny1")] == ["S9"]
    assert [box.serial for box in stock.page(described, place="shelf 3", limit=2)] == ["S0", "S1"]
    assert stock.counts(described) == [
        ("h200x8", "installed", "berlin/r1", 1),
        ("h200x8", "stored", "shelf 3", 3),
    ]


def test_a_box_is_moved_and_scrapped_and_comes_back_no_more(
    described: Session, admin: Principal, now: float
) -> None:
    box = add(described, admin, now, "S1", state=BoxState.ORDERED)
    for state in ("stored", "installed", "repair", "installed", "scrapped"):
        stock.move(described, box.id, admin, now, {"state": BoxState(state), "place": f"there {state}"})
        assert (box.state, box.place) == (state, f"there {state}")
    with pytest.raises(InvalidTransition):
        stock.move(described, box.id, admin, now, {"state": BoxState.STORED})


def test_a_place_or_a_node_changes_without_the_state(
    described: Session, admin: Principal, now: float
) -> None:
    box = add(described, admin, now, "S1")
    stock.move(described, box.id, admin, now, {"place": "shelf 4", "node": "tiny1"})
    assert (box.state, box.place, box.node) == ("stored", "shelf 4", "tiny1")
    stock.move(described, box.id, admin, now, {"node": None})
    assert box.node is None


def test_what_cannot_be_is_refused_with_the_field(described: Session, admin: Principal, now: float) -> None:
    box = add(described, admin, now, "S1", node="tiny1")
    with pytest.raises(AlreadyExists):
        add(described, admin, now, "S1")
    with pytest.raises(AlreadyExists, match="box S1 is that node"):
        add(described, admin, now, "S2", node="tiny1")
    with pytest.raises(InvalidSpec, match="model: nobody has described h100x8; there is h200x8"):
        stock.add(described, serial="S3", model="h100x8", principal=admin, now=now)
    with pytest.raises(InvalidSpec, match="state"):
        stock.move(described, box.id, admin, now, {})
    with pytest.raises(InvalidSpec, match="is not ordered again"):
        stock.move(described, box.id, admin, now, {"state": BoxState.ORDERED})
    with pytest.raises(NotFound):
        stock.move(described, 77, admin, now, {"place": "x"})
    with pytest.raises(InvalidSpec, match="1 boxes of the stock are of h200x8"):
        box_models.remove(described, "h200x8", admin, now)


def test_only_operators_change_the_stock(described: Session, admin: Principal, now: float) -> None:
    viewer = Principal("user", 9, "eve", "default", "viewer")
    with pytest.raises(NotPermitted):
        add(described, viewer, now, "S1")
    with pytest.raises(NotPermitted):
        box_models.put(described, "m", Limits(gpus=1), viewer, now)
