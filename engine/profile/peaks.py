"""What this machine can do at most, as measured by engine.profile.calibration, and the file that keeps it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from engine.profile.counts import Counts
from engine.target import Target

VERSION = 1  # of the calibration kernels: peaks measured by others are not used


@dataclass(frozen=True)
class Peaks:
    """The highest rates that kernels of our own reached on `threads` threads, and what a launch costs.

    DRAM: `read_bytes_per_s` of a kernel that reads only; `copy_bytes_per_s` of one that reads and writes as much,
    both counted. SRAM: loads from the first-level cache (`l2_bytes_per_s`: from the second, for information). ALU:
    multiply-adds of float32 and float64, counting 2. `cache_bytes`: the working set up to which reading is faster
    than from DRAM. `launch_s`: from one kernel of one element to the next. `others`: how many other threads of this
    machine wanted a core meanwhile, on average: beside them peaks come out too low.
    """

    threads: int
    read_bytes_per_s: float
    copy_bytes_per_s: float
    sram_bytes_per_s: float
    l2_bytes_per_s: float
    float32_per_s: float
    float64_per_s: float
    cache_bytes: int
    dram_array_bytes: int
    launch_s: float
    others: float = 0.0

    def at_least(self, fewer: Peaks) -> Peaks:
        """These, raised to those of fewer threads where they are below them: more threads can do as much."""
        rates = [each.name for each in fields(self) if each.name.endswith("_per_s")]
        raised = {name: max(getattr(self, name), getattr(fewer, name)) for name in (*rates, "cache_bytes")}
        return replace(self, **raised)

    def dram_s(self, counts: Counts) -> float:
        """Seconds that DRAM needs: reads at their rate, writes at what is left of it while copying."""
        each_read = 1 / self.read_bytes_per_s
        each_written = max(0.0, 2 / self.copy_bytes_per_s - each_read)
        return counts.dram.read * each_read + counts.dram.written * each_written

    def sram_s(self, counts: Counts) -> float:
        """Seconds that loads and stores need."""
        return counts.sram_bytes / self.sram_bytes_per_s

    def alu_s(self, counts: Counts) -> float:
        """Seconds that the operations need; of narrower ones than 4 bytes as many more fit a register."""
        rates = {8: self.float64_per_s}
        return sum(
            number / rates.get(width, self.float32_per_s * 4 / min(width, 4))
            for width, number in counts.operations.items()
        )


def load(folder: Path, target: Target) -> dict[int, Peaks]:
    """The peaks that are kept for a target, by threads; none where none are, or where they are of another version."""
    try:
        found = json.loads(_file(folder, target).read_text(encoding="utf-8"))
        if found["version"] != VERSION:
            return {}
        return {entry["threads"]: Peaks(**entry) for entry in found["peaks"]}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def keep(folder: Path, target: Target, peaks: dict[int, Peaks]) -> Path:
    """Keep these instead of what was kept for the target; the file. It is there wholly or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _file(folder, target)
    document: dict[str, Any] = {
        "version": VERSION,
        "target": target.to_json(),
        "peaks": [asdict(peaks[threads]) for threads in sorted(peaks)],
    }
    unfinished = path.with_suffix(f".{os.getpid()}")
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    return path


def _file(folder: Path, target: Target) -> Path:
    return folder / f"{target.id}.json"
