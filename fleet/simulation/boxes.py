"""Which boxes a simulated fleet is made of. The figures are makers' own, rounded; nothing here was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuModel:
    """A GPU: what it draws idle and at most, its memory, and its clocks."""

    product: str
    vendor: str
    arch: str
    idle_watts: float
    limit_watts: float
    memory_bytes: int
    clock_hertz: float
    links: int  # to other GPUs
    fabric: str
    true_utilization: bool = True  # a GeForce has no GPM: SM active is absent there, not 0
    driver: str = "580.65.06"


@dataclass(frozen=True)
class Box:
    """One model of server."""

    model: str
    gpu: GpuModel
    gpus: int
    drives: int
    rest_watts: float  # processors, fans and drives without load
    nameplate_watts: float
    cores: int
    memory_bytes: int


H200 = GpuModel("NVIDIA H200", "nvidia", "sm_90", 76.0, 700.0, 141 << 30, 1.98e9, 18, "nvlink")
RTX_4090 = GpuModel("NVIDIA GeForce RTX 4090", "nvidia", "sm_89", 18.0, 450.0, 24 << 30, 2.52e9, 0, "", False)
MI300X = GpuModel(
    "AMD Instinct MI300X", "amd", "gfx942", 140.0, 750.0, 192 << 30, 2.1e9, 7, "xgmi", driver="6.12.12"
)
BOXES = {
    "h200x8": Box("h200x8", H200, 8, 8, 900.0, 10_200.0, 192, 2 << 40),
    "rtx4090x6": Box("rtx4090x6", RTX_4090, 6, 4, 220.0, 3_200.0, 32, 128 << 30),
    "mi300x8": Box("mi300x8", MI300X, 8, 8, 950.0, 10_800.0, 192, 2 << 40),
}
