"""Put questions with known answers to a device for a while, check every answer, and measure how fast they came.

A GPU runs the known-answer kernel in one context; each launch is checked. The CPU multiplies matrices by the engine, which
checks the product against the definition before it times it. What cannot be asked has not passed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fleet.agents.protocol import BurninSpec, KernelRef, KernelSpec, Program
from fleet.agents.tasks import kernel
from fleet.agents.tasks.context import Failed, Report, TaskContext
from fleet.agents.walls import known_answer, nvml

GEMM = [512, 512, 512]
# A multiplication and an addition of integers, and as much of floats, each round of each thread.
_OPERATIONS = 4 * known_answer.THREADS * known_answer.ROUNDS


def run(spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    """Result: a BurninResult. Failed for a wrong answer, for none, and for a device that cannot be asked."""
    wanted = BurninSpec.model_validate(spec)
    if wanted.gpu is None:
        return _cpu(wanted.seconds, workdir, report, context)
    return gpu(int(wanted.gpu.removeprefix("gpu")), wanted.seconds, report)


def _cpu(seconds: float, workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    asked = KernelSpec(kernel=KernelRef(program=Program.GEMM, shape=GEMM), time_s=min(seconds, 60.0))
    found = kernel.run(asked.model_dump(mode="json", by_alias=True), workdir, report, context)
    row = found["rows"][0]
    if not row["gflops"]:
        raise Failed("the product of matrices was right, but could not be timed", {})
    return {"rate": row["gflops"] * 1e9, "rounds": max(1, len(row["times_s"])), "seconds": seconds}


def gpu(number: int, seconds: float, report: Report) -> dict[str, Any]:
    """Of the NVIDIA GPU of this minor number."""
    address = nvml.pci_address(number)
    if address is None:
        why = "no NVIDIA driver knows it; for GPUs of other makers there is no known-answer kernel yet"
        raise Failed(f"gpu{number} cannot be asked: {why}", {})
    try:
        return _asked(number, address, seconds, report)
    except known_answer.Refused as error:
        raise Failed(f"gpu{number}: {error}", {}) from error


def _asked(number: int, address: str, seconds: float, report: Report) -> dict[str, Any]:
    gpu = known_answer.Asked(address)
    gpu.launch()  # the first one compiles the kernel
    began, busy, rounds = time.monotonic(), 0.0, 0
    right = known_answer.expected()
    while rounds == 0 or time.monotonic() - began < seconds:
        start = time.monotonic()
        gpu.launch()
        busy += time.monotonic() - start
        rounds += 1
        if (answers := gpu.answers()) != right:
            raise Failed(f"gpu{number}, round {rounds}: {known_answer.wrong(answers)}", {})
        report({"rounds": rounds})
    width, generation = nvml.link(number)  # while it is warm: an idle one slows its link down
    temperature = nvml.temperature(number)
    gpu.close()
    return {
        "rate": rounds * _OPERATIONS / busy,
        "rounds": rounds,
        "seconds": time.monotonic() - began,
        "link_width": width or None,
        "link_generation": generation or None,
        "temperature_celsius": None if temperature is None else float(temperature),
    }
