"""Nodes with GPUs: as plain values for the planners, and as rows of a real control plane."""

from __future__ import annotations

from typing import Any

from fleet.agents.protocol import DeviceReport, Inventory
from fleet.requirements import DeviceView, NodeView
from tests.fleet.acting import inventory


def box(number: int, gpus: int = 0, slots: int = 8, **gpu: Any) -> NodeView:
    """A node: its cpu is device 100 times its number, its GPUs are those after it."""
    cpu = DeviceView(number * 100, "cpu", "cpu", "acme", "t1", slots)
    arch = gpu.pop("arch", "sm_90")
    cards = (
        DeviceView(number * 100 + 1 + each, f"gpu{each}", "gpu", arch, None, 1, **gpu) for each in range(gpus)
    )
    return NodeView(number, f"box{number}", "ready", False, "online", 64, (cpu, *cards))


def boxed(gpus: int, slots: int = 8) -> Inventory:
    """What a node with GPUs reports."""
    found = inventory(cores=slots, slots=slots)
    cards = [
        DeviceReport(
            name=f"gpu{each}", kind="gpu", model="Acme G", arch="sm_90", vendor="acme", memory_bytes=80 << 30
        )
        for each in range(gpus)
    ]
    return found.model_copy(update={"devices": [*found.devices, *cards]})
