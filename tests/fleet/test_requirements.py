"""What a job asks of the nodes, and which node could ever run it: plain values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from fleet.agents.protocol import JobKind
from fleet.requirements import LIFTABLE, Needs, NodeView, fit, misfits
from fleet.wishes import Requirements, needs
from tests.fleet.floors import box


def asked(**wanted: Any) -> Needs:
    """A noop's needs."""
    return Needs(JobKind.NOOP, **wanted)


def why_not(node: NodeView, **wanted: Any) -> list[str]:
    """The requirements that a node does not meet."""
    return [each.requirement for each in misfits(asked(**wanted), node)]


BOX = replace(
    box(1, gpus=4, arch="sm_90a", memory_bytes=80 << 30, vendor="nvidia"),
    labels=frozenset({"zone=a", "old=yes"}),
    rack="r1",
    trust="shared",
)


@pytest.mark.parametrize(
    ("wanted", "requirement"),
    [
        ({"gpus": 8}, "gpus"),
        ({"gpus": 1, "gpu_arch": "gfx1100"}, "gpu_arch"),
        ({"gpus": 1, "gpu_memory_bytes": 96 << 30}, "gpu_memory_bytes"),
        ({"gpus": 1, "gpu_vendor": "amd"}, "gpu_vendor"),
        ({"gpus": 1, "gpu_driver": "userspace"}, "gpu_driver"),
        ({"slots": 99}, "slots"),
        ({"labels": ("zone=b",)}, "labels"),
        ({"anti_labels": ("old",)}, "anti_labels"),
        ({"anti_labels": ("zone=a",)}, "anti_labels"),
        ({"rack": "r2"}, "rack"),
        ({"trust": "sealed"}, "trust"),
        ({"threads": 99}, "threads"),
        ({"node_id": 7}, "node"),
    ],
)
def test_a_misfit_names_its_requirement_and_without_that_the_node_fits(
    wanted: dict[str, Any], requirement: str
) -> None:
    assert why_not(BOX, **wanted) == [requirement]
    assert misfits(asked(**wanted).lifted(requirement), BOX) == ()


def test_what_the_node_offers_fits() -> None:
    wanted = asked(
        gpus=4,
        gpu_arch="sm_90",
        gpu_memory_bytes=80 << 30,
        gpu_vendor="nvidia",
        labels=("zone=a",),
        anti_labels=("zone=b", "broken"),
        rack="r1",
        trust="shared",
    )
    assert fit(wanted, BOX) == (BOX.cpu, "")


def test_every_requirement_can_be_lifted() -> None:
    wanted = asked(gpus=2, gpu_arch="x", labels=("a=b",), ranks=3)
    for requirement in LIFTABLE:
        wanted = wanted.lifted(requirement)
    assert wanted == asked()


def test_a_sick_gpu_does_not_count() -> None:
    sick = tuple(replace(each, health="quarantined") if each.name == "gpu0" else each for each in BOX.devices)
    found = misfits(asked(gpus=4), replace(BOX, devices=sick))
    assert [(each.requirement, each.problem) for each in found] == [
        ("available", "has 3 GPUs in order, not 4")
    ]


def test_no_single_quality_is_to_blame_when_none_has_them_all() -> None:
    mixed = tuple(
        replace(each, vendor="amd", memory_bytes=16 << 30) if each.name == "gpu0" else each
        for each in box(1, gpus=2, vendor="nvidia", memory_bytes=80 << 30).devices
    )
    found = misfits(asked(gpus=1, gpu_vendor="amd", gpu_memory_bytes=80 << 30), replace(BOX, devices=mixed))
    assert [each.problem for each in found] == ["has no GPUs with all of that, not 1"]


def test_jobs_that_ask_the_same_have_the_same_text_and_those_that_ask_more_do_not() -> None:
    plain, more = asked(), asked(gpus=2, labels=("zone=a",))
    assert plain.text() == asked().text()
    assert more.text() == asked(gpus=2, labels=("zone=a",)).text()
    assert len({plain.text(), more.text(), asked(gpus=2).text()}) == 3


def test_a_request_becomes_needs_and_its_row_gives_them_again() -> None:
    request = Requirements.model_validate(
        {"gpus": 2, "labels": {"zone": "a"}, "anti_labels": ["old"], "exclusive": "node", "ranks": 3}
    )
    found = needs("noop", request.stored(), arch="acme")
    assert (found.gpus, found.labels, found.anti_labels) == (2, ("zone=a",), ("old",))
    assert (found.exclusive, found.ranks, found.arch) == (True, 3, "acme")
    assert needs("noop", {}) == asked()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"gpu_arch": "sm_90"}, "set gpus"),
        ({"exclusive": "gpu"}, "set gpus"),
        ({"gpus": True}, "valid integer"),
        ({"gpus": 65}, "less than or equal to 64"),
        ({"labels": {"a b": "c"}}, "pattern"),
        ({"trust": "high"}, "sealed"),
        ({"gpuz": 1}, "Extra inputs"),
    ],
)
def test_a_request_that_cannot_be_is_refused_with_the_fix(document: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Requirements.model_validate(document)
