"""Run one kernel on random inputs: checked against the interpreter, timed, side by side with others and with NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from engine.compare import NUMPY, Row, compare
from engine.errors import InvalidGraph
from engine.heuristic import schedule as heuristic
from engine.kernel import Kernel
from engine.opts import Schedule, schedule_from_json, schedule_to_json
from engine.outcome import Outcome
from engine.programs import Cost, cost
from engine.serialize import kernel_hash
from engine.store import Store
from engine.target import Target
from engine.toolchain import detect
from fleet.agents.protocol import KernelSpec
from fleet.agents.tasks.context import Failed, Report, TaskContext
from fleet.agents.tasks.definition import definition
from fleet.agents.tasks.results import finite

Wanted = Schedule | Literal["numpy"]


def run(spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    """Result: what the kernel is, and a row for the schedule asked for and for each of `compare`, in that order.

    {kernel_hash, target_id, flops, bytes, reduction, rows: [{name, outcome, schedule, times_s, gflops, …}]}, times in
    seconds, gbps in 10⁹ bytes/s. Artifacts: NAME.c, each row's source. Failed when the first row is not right.
    """
    wanted = KernelSpec.model_validate(spec)
    kernel, target = definition(wanted.kernel, workdir), detect()
    named = rows(wanted, kernel, target)
    found = compare(
        kernel,
        list(named.items()),
        target,
        store=Store(context.cache / "store"),
        threads=wanted.threads,
        seed=wanted.seed,
        time_s=wanted.time_s,
        renderer=context.renderer(target),
        report=report,
    )
    for row in found:
        if row.source:
            (workdir / "artifacts" / f"{row.name}.c").write_text(row.source)
    result = described(kernel, target, found)
    _judge(found[0], result)
    return result


def rows(wanted: KernelSpec, kernel: Kernel, target: Target) -> dict[str, Wanted]:
    """Name → schedule of every row. "tuned" is the heuristic's where the fleet knows no better."""
    picks: dict[str, Wanted] = {}
    if isinstance(wanted.schedule, list):
        picks["given"] = schedule_from_json(wanted.schedule)
    for name in (wanted.schedule, *wanted.compare):
        if isinstance(name, str):
            picks.setdefault(name, _pick(name, wanted, kernel, target))
    return picks


def _pick(name: str, wanted: KernelSpec, kernel: Kernel, target: Target) -> Wanted:
    if name == NUMPY:
        return NUMPY
    if name == "none":
        return ()
    if name == "tuned" and wanted.tuned is not None:
        return schedule_from_json(wanted.tuned, "tuned")
    return heuristic(kernel, target, wanted.threads)


def described(kernel: Kernel, target: Target, found: list[Row]) -> dict[str, Any]:
    """The result as JSON."""
    least = cost(kernel)
    return {
        "kernel_hash": kernel_hash(kernel),
        "target_id": target.id,
        "flops": least.flops,
        "bytes": least.bytes,
        "reduction": least.reduction,
        "rows": [_row(row, least) for row in found],
    }


def _row(row: Row, least: Cost) -> dict[str, Any]:
    return {
        "name": row.name,
        "outcome": row.outcome.value,
        "schedule": None if row.schedule is None else schedule_to_json(row.schedule),
        "schedule_hash": row.schedule_hash,
        "source_hash": row.source_hash,
        "threads": row.threads,
        "max_error": finite(row.max_error),
        "tolerance": finite(row.tolerance),
        "best_s": row.best_s,
        "median_s": row.median_s,
        "times_s": list(row.times_s),
        "gflops": _rate(least.flops, row.best_s),
        "gbps": _rate(least.bytes, row.best_s),
        "detail": row.detail[:2000],
    }


def _rate(amount: float, seconds: float | None) -> float | None:
    """10⁹ a second; None for what was not timed."""
    return amount / seconds / 1e9 if seconds else None


def _judge(row: Row, result: dict[str, Any]) -> None:
    """The row that was asked for decides about the job."""
    if row.outcome is Outcome.ILLEGAL:
        raise InvalidGraph(row.detail, f"schedule {row.name}")
    if row.outcome is not Outcome.OK:
        raise Failed(f"the kernel with schedule {row.name}: {row.outcome.value}: {row.detail}", result)
