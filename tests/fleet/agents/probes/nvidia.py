"""NVIDIA GPUs that are not here: a shared library in the place of the driver's, which nvidia-ml-py loads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml_driver.c")
GEFORCE = {
    "minor": 0,
    "power": 150_000,
    "limit": 350_000,
    "energy": 5_000_000,
    "busy": 31,
    "used": 1 << 30,
    "total": 24 << 30,
    "temperature": 61,
    "fan": 45,
    "reasons": 1,
    "clock0": 1395,
    "clock1": 1395,
    "clock2": 9501,
    "clock3": 1200,
    "width": 8,
    "width_max": 16,
    "generation": 3,
    "field94": 12,
    "throughput0": 400,
    "throughput1": 9_000,
    "field74": 2_500_000_000,
}
# Utilization says 31 % where hardly any multiprocessor worked: as measured on an H200.
H200 = {name: number for name, number in GEFORCE.items() if name != "fan"} | {
    "serial": 165001,
    "gpm": 1,
    "gpm2": 1,
    "gpm3": 0,
    "gpm5": 0,
    "gpm10": 890,
    "gpm20": 32_058,
    "gpm21": 536_869,
    "reasons": 4 | 64,
    "field82": 66,
    "field142": 1,
    "field143": 0,
    "field144": 0,
    "field145": 0,
    "field138": 1000,
    "field139": 2000,
    "field230": 0,
    "field270": 1_000_000_000,
    "ecc00": 7,
    "ecc01": 70,
    "ecc10": 0,
    "ecc11": 1,
}

# Microseconds of processor time that calls took on a real H200 (tests/gpu/telemetry.py), Python's included; what took 10 or
# less is what it takes here too.
H200_COSTS = {
    "cost_energy": 4790,
    "cost_fan": 88,
    "cost_link": 29,
    "cost_processes": 30,
    "cost_field94": 99,
    "cost_field270": 390,
    "cost_field271": 379,
}


class NoCompiler(Exception):
    """There is no C compiler here."""


def build(folder: Path) -> Path:
    """The library, named as the driver's. Raises NoCompiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler
    library = folder / "libnvidia-ml.so.1"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O1",
        f"-Wl,-soname,{library.name}",
        "-o",
        str(library),
        str(SOURCE),
    ]
    subprocess.run(command, check=True)
    return library


def table(path: Path, *gpus: dict[str, int]) -> None:
    """What the library answers, GPU by GPU; the minor number follows the place unless it was changed."""
    lines = [
        f"{place} {key} {number or place if key == 'minor' else number}\n"
        for place, gpu in enumerate(gpus)
        for key, number in gpu.items()
    ]
    path.write_text("".join(lines))
