"""Put questions with known answers to a device for a while, check every answer, and measure how fast they came.

A GPU runs the known-answer kernel in one context (CUDA's, or HIP's on AMD); each launch is checked. The CPU multiplies matrices by the engine, which
checks the product against the definition before it times it. What cannot be asked has not passed.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from fleet.agents.protocol import BurninSpec, KernelRef, KernelSpec, Program
from fleet.agents.tasks import hip, kernel
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


class Card(Protocol):
    """A GPU that is asked; `known_answer.Asked` of NVIDIA's, `hip.Asked` of AMD's."""

    def launch(self) -> None:
        """Have every thread answer once, and wait for that."""

    def answers(self) -> array[int]:
        """What the last launch answered."""

    def close(self) -> None:
        """Give back what was taken."""


Warm = Callable[[], tuple[tuple[int | None, int | None], float | None]]  # its link, and its temperature


def gpu(number: int, seconds: float, report: Report) -> dict[str, Any]:
    """Of the NVIDIA GPU of this minor number, or the AMD GPU of this render node."""
    address, place = nvml.pci_address(number), hip.place(number)
    try:
        if address is not None:
            card = known_answer.Asked(address)
            return asked(number, card, seconds, report, lambda: (nvml.link(number), nvml.temperature(number)))
        if place is not None:
            amd = hip.Asked(place.address)
            return asked(number, amd, seconds, report, lambda: (place.link(), place.temperature()))
    except known_answer.Refused as error:
        raise Failed(f"gpu{number}: {error}", {}) from error
    why = "neither NVIDIA's driver nor amdgpu knows it; of other makers there is no known-answer kernel"
    raise Failed(f"gpu{number} cannot be asked: {why}", {})


def asked(number: int, gpu: Card, seconds: float, report: Report, warm: Warm) -> dict[str, Any]:
    """Ask for so long. Failed for a wrong answer, Refused for none."""
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
    (width, generation), temperature = warm()  # an idle one slows its link down
    gpu.close()
    return {
        "rate": rounds * _OPERATIONS / busy,
        "rounds": rounds,
        "seconds": time.monotonic() - began,
        "link_width": width or None,
        "link_generation": generation or None,
        "temperature_celsius": None if temperature is None else float(temperature),
    }
