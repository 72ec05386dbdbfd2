"""The job kinds that use the engine: what they make of their specs, here and on a real node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidGraph
from engine.programs import program
from engine.serialize import kernel_hash, kernel_text, kernel_to_json
from engine.target import Target
from engine.toolchain import detect, renderer_of
from fleet.agents.protocol import (
    ExpandResult,
    KernelRef,
    MeasureResult,
    Outcome,
    blob_address,
    canonical_hash,
)
from fleet.agents.tasks import confirm, expand, kernel, measure
from fleet.agents.tasks.context import Failed, TaskContext
from fleet.agents.tasks.definition import definition
from tests.fakes import Fault, FaultKind, FaultyRenderer
from tests.fleet.agents.conftest import Start
from tests.fleet.agents.far_end import FarEnd

GEMM = {"program": "gemm", "shape": [24, 20, 28]}


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    for folder in ("artifacts", "blobs"):
        (tmp_path / folder).mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> TaskContext:
    return TaskContext(tmp_path_factory.mktemp("cache"))


def ignore(progress: dict[str, Any]) -> None:
    assert isinstance(progress["phase"], str)


def artifact(workdir: Path, name: str) -> Any:
    return json.loads((workdir / "artifacts" / name).read_text())


def test_a_kernel_is_the_same_by_name_by_value_and_by_hash(workdir: Path) -> None:
    meant = program("gemm", (24, 20, 28))
    (workdir / "blobs" / kernel_hash(meant)).write_text(kernel_text(meant))
    for ref in (
        KernelRef.model_validate(GEMM),
        KernelRef(json=kernel_to_json(meant)),
        KernelRef(hash=kernel_hash(meant)),
    ):
        assert kernel_hash(definition(ref, workdir)) == kernel_hash(meant)
    assert blob_address(kernel_text(meant).encode()) == kernel_hash(meant)


def test_a_kernel_that_cannot_be_is_invalid(workdir: Path) -> None:
    (workdir / "blobs" / ("1" * 64)).write_text("not json")
    for ref in (
        KernelRef(json={"nodes": "none"}),
        KernelRef(hash="0" * 64),
        KernelRef(hash="1" * 64),
    ):
        with pytest.raises(InvalidGraph):
            definition(ref, workdir)


def test_the_engine_and_the_protocol_agree_on_a_targets_id() -> None:
    assert canonical_hash(detect().to_json()) == detect().id


def test_a_search_step_by_step(workdir: Path, context: TaskContext) -> None:
    spec = {"kind": "expand", "kernel": GEMM, "limit": 2}
    proposed = ExpandResult.model_validate(expand.run(spec, workdir, ignore, context))
    assert 1 <= len(proposed.candidates) <= 2
    assert proposed.flops == 2 * 24 * 20 * 28
    assert blob_address((workdir / "artifacts" / "kernel.json").read_bytes()) == proposed.kernel_hash

    illegal = {"hash": "0" * 64, "schedule": [["split", "out", 0, 3, "global"]]}
    candidates = [item.model_dump(mode="json") for item in proposed.candidates]
    spec = {"kind": "measure", "kernel": GEMM, "candidates": candidates, "budget_s": 60}
    batch = MeasureResult.model_validate(measure.run(spec, workdir, ignore, context))
    assert [item.hash for item in batch.results] == [item.hash for item in proposed.candidates]
    assert batch.target_id == detect().id
    right = [item for item in batch.results if item.outcome == "ok"]
    assert right
    sources = artifact(workdir, "candidates.json")
    assert all(item.source_hash in sources for item in right)
    assert sources["outcomes"][right[0].hash] == "ok"

    finalists = [{"hash": item.hash, "schedule": item.schedule} for item in right[:2]]
    spec = {"kind": "confirm", "kernel": GEMM, "candidates": finalists, "seed": 1}
    final = MeasureResult.model_validate(confirm.run(spec, workdir, ignore, context))
    times = [item.time_s for item in final.results if item.time_s is not None]
    assert times == sorted(times)
    assert len(times) == len(finalists)
    with pytest.raises(InvalidGraph):
        measure.run(
            spec | {"kind": "measure", "candidates": [illegal], "budget_s": 1}, workdir, ignore, context
        )


def test_a_kernel_is_checked_and_timed_beside_others(workdir: Path, context: TaskContext) -> None:
    spec = {
        "kind": "kernel",
        "kernel": GEMM,
        "schedule": "tuned",
        "compare": ["none", "heuristic", "numpy"],
        "time_s": 0.01,
    }
    result = kernel.run(spec, workdir, ignore, context)
    assert [row["name"] for row in result["rows"]] == ["tuned", "none", "heuristic", "numpy"]
    assert [row["outcome"] for row in result["rows"]] == ["ok"] * 4
    for row in result["rows"]:
        assert row["max_error"] <= row["tolerance"]
        assert row["gflops"] == pytest.approx(result["flops"] / row["best_s"] / 1e9)
    assert result["reduction"] == 28
    assert (workdir / "artifacts" / "none.c").read_text().count("{") > 0
    json.dumps(result, allow_nan=False)


def test_a_schedule_that_does_not_fit_is_invalid(workdir: Path, context: TaskContext) -> None:
    spec = {"kind": "kernel", "kernel": GEMM, "schedule": [["SPLIT", "out", 9, 4, "LOOP"]]}
    with pytest.raises(InvalidGraph):
        kernel.run(spec, workdir, ignore, context)


def crashing(target: Target) -> FaultyRenderer:
    """A renderer whose code writes where it may not, at once."""
    return FaultyRenderer(renderer_of(target), [Fault(FaultKind.SEGFAULT)])


def test_a_kernel_that_crashes_fails_the_job_and_shows_its_row(workdir: Path, tmp_path: Path) -> None:
    spec = {"kind": "kernel", "kernel": GEMM, "schedule": "none", "time_s": 0.01}
    with pytest.raises(Failed, match="crashed") as caught:
        kernel.run(spec, workdir, ignore, TaskContext(tmp_path / "cache", crashing))
    (row,) = caught.value.result["rows"]
    assert (row["outcome"], row["best_s"]) == ("crashed", None)


@pytest.mark.slow
def test_a_node_runs_kernels_and_refuses_what_cannot_be(far_end: FarEnd, start_agent: Start) -> None:
    start_agent(far_end, setup="")
    right = far_end.submit(
        {"kind": "kernel", "kernel": GEMM, "schedule": "none", "time_s": 0.01}, exclusive=True
    )
    wrong = far_end.submit({"kind": "kernel", "kernel": {"json": {"nodes": []}}}, exclusive=True)
    ended = far_end.wait_exit(right)
    assert ended.outcome is Outcome.SUCCEEDED, ended.error
    assert ended.result is not None
    assert ended.result["rows"][0]["outcome"] == "ok"
    assert b"void " in far_end.blobs[ended.artifacts["none.c"]]
    assert far_end.wait_exit(wrong).outcome is Outcome.INVALID
    reported = far_end.observed[0].inventory
    assert reported is not None
    assert reported.devices[0].target_id in (ended.result["target_id"], None)
