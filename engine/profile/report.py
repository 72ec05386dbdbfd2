"""A recording for people and for programs: the table, its footer, and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from engine.opts import schedule_to_json
from engine.profile.lines import Line
from engine.profile.peaks import Peaks
from engine.profile.recording import Recording


def to_json(recording: Recording, lines: list[Line], peaks: Mapping[int, Peaks]) -> dict[str, Any]:
    """All of it; times in seconds, shares and percentages as fractions of 1."""
    return {
        "wall_s": recording.wall_s,
        "busy_s": recording.busy_s,
        "events": len(recording),
        "lost": recording.lost,
        "kernels": [_line_json(line) for line in lines],
        "peaks": [asdict(peaks[threads]) for threads in sorted(peaks)],
    }


def _line_json(line: Line) -> dict[str, Any]:
    scheduled, counts, picture = line.subject.scheduled, line.counts, line.picture
    found: dict[str, Any] = {
        "name": line.name,
        "calls": line.calls,
        "total_s": line.total_s,
        "median_s": line.median_s,
        "idle_s": line.idle_s,
        "share": line.share,
        "threads": line.subject.threads,
        "schedule": None if scheduled is None else schedule_to_json(scheduled.opts),
    }
    if counts is not None:
        found |= {
            "dram_bytes": counts.dram.bytes,
            "sram_bytes": counts.sram_bytes,
            "operations": counts.all_operations,
        }
    if picture is not None:
        found |= {
            "dram": picture.dram,
            "sram": picture.sram,
            "alu": picture.alu,
            "bound": picture.bound.value,
        }
    return found


def print_report(
    console: Console, recording: Recording, lines: list[Line], peaks: Mapping[int, Peaks], faults: int = 0
) -> None:
    """The table, what it leaves out, and what its percentages are of. `faults`: page faults meanwhile."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("kernel", overflow="fold")
    for heading in ("calls", "total", "share", "median", "%DRAM", "%SRAM", "%ALU"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("bound by", no_wrap=True)
    for line in lines:
        table.add_row(*_cells(line))
    console.print(table)
    for text in _footer(recording, lines, faults):
        console.print(text, highlight=False)
    for threads in sorted({line.subject.threads for line in lines} & peaks.keys()):
        console.print(describe(peaks[threads]), highlight=False)


def _cells(line: Line) -> list[str]:
    cells = [line.name, str(line.calls), seconds(line.total_s), f"{line.share:.0%}", seconds(line.median_s)]
    picture = line.picture
    if picture is None:
        return [*cells, "–", "–", "–", "interpreted" if line.subject.scheduled is None else ""]
    shares = [f"{100 * share:.0f}" for share in (picture.dram, picture.sram, picture.alu)]
    return [*cells, *shares, picture.bound.value]


def _footer(recording: Recording, lines: list[Line], faults: int) -> list[str]:
    busy, wall, kinds = recording.busy_s, recording.wall_s, len(recording.kernels())
    share = f"{busy / wall:.0%}" if wall > 0 else "–"
    found = [
        f"{len(recording)} runs of {kinds} kernels: {seconds(busy)} of {seconds(wall)} ({share}); the rest is Python, "
        "compiling and allocation"
    ]
    if len(lines) < kinds:
        found.append(f"{kinds - len(lines)} kernels that took less are not shown (--limit)")
    if recording.lost:
        found.append(f"{recording.lost} events were lost: kernels ran faster than they could be read")
    if faults:
        found.append(
            f"{faults} page faults meanwhile: memory touched for the first time, also inside kernels"
        )
    return found


def describe(peaks: Peaks) -> str:
    """The peaks in one line."""
    rates = (peaks.read_bytes_per_s, peaks.copy_bytes_per_s, peaks.sram_bytes_per_s, peaks.l2_bytes_per_s)
    read, copied, sram, l2 = (f"{rate / 1e9:.1f}" for rate in rates)
    f32, f64 = (f"{rate / 1e9:.0f}" for rate in (peaks.float32_per_s, peaks.float64_per_s))
    beside = f"; measured beside {peaks.others:.1f} other threads: too low" if peaks.others >= 1 else ""
    return (
        f"peaks on {peaks.threads} thread{'s' * (peaks.threads > 1)}: DRAM {read} GB/s reading, {copied} copying; "
        f"SRAM {sram} GB/s (L2 {l2}); ALU {f32} GFLOP/s float32, {f64} float64; "
        f"last level {peaks.cache_bytes >> 20} MiB; launch {seconds(peaks.launch_s)}{beside}"
    )


def seconds(value: float) -> str:
    """A time for people: three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= 0.9995 * scale:  # 999.6 µs is 1 ms
            return f"{value / scale:.{4 if value >= 999.5 else 3}g} {unit}"
    return f"{value / 1e-9:.3g} ns"
