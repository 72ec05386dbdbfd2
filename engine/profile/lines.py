"""One line a kernel: how often and how long it ran, and its picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.dtype import DType
from engine.ir import toposort
from engine.kernel import Kernel
from engine.ops import ELEMENTWISE, Op
from engine.profile.counts import Counts, counts
from engine.profile.peaks import Peaks
from engine.profile.picture import Picture, picture
from engine.profile.recording import Recording, Runs
from engine.runtime.ring import Subject
from engine.shapes import shape_of

_REDUCERS = {Op.ADD: "sum", Op.MUL: "prod", Op.MAX: "max", Op.MIN: "min"}
_NAMED = 3  # operations in a name


@dataclass(frozen=True)
class Line:
    """A kernel of a recording. Without counts and picture: it was interpreted, or its peaks are not known."""

    name: str
    subject: Subject
    calls: int
    total_s: float
    median_s: float
    idle_s: float  # without a kernel before it, by the median
    share: float  # of the time of all kernels
    counts: Counts | None
    picture: Picture | None


def lines(recording: Recording, peaks: Mapping[int, Peaks], limit: int | None = None) -> list[Line]:
    """The kernels of a recording (at most `limit`), the one that took longest first; `peaks` by threads.

    The picture is that of the median run.
    """
    runs = recording.kernels()
    total = sum(each.total_s for each in runs) or 1.0
    return [_line(each, peaks.get(each.subject.threads), total) for each in runs[:limit]]


def _line(runs: Runs, peaks: Peaks | None, total_s: float) -> Line:
    found = None if peaks is None else counts(runs.subject, peaks.cache_bytes)
    seconds = runs.median_s
    seen = (
        None
        if found is None or peaks is None or seconds <= 0
        else picture(found, seconds, runs.median_idle_s, peaks)
    )
    name = name_of(runs.subject.kernel)
    return Line(
        name,
        runs.subject,
        len(runs.events),
        runs.total_s,
        seconds,
        runs.median_idle_s,
        runs.total_s / total_s,
        found,
        seen,
    )


def name_of(kernel: Kernel) -> str:
    """What a kernel computes, in a few words: its operations, its output's shape ← what it reduces, its dtype."""
    order = toposort(kernel.output)
    words = dict.fromkeys(
        _REDUCERS[node.arg[0]] if node.op is Op.REDUCE else node.op.value.lower()
        for node in order
        if node.op in _TELLING
    )
    told = " ".join(list(words)[:_NAMED]) + ("…" if len(words) > _NAMED else "")
    reduced = [shape_of(node.src[0])[axis] for node in kernel.reduces for axis in node.arg[1]]
    shape = _times(shape_of(kernel.output)) + (f"←{_times(reduced)}" if reduced else "")
    return f"{told or 'copy'} {shape} {_short(kernel.dtype)}"


def _short(dtype: DType) -> str:
    """f32, u8, bf16, …"""
    return dtype.name.removesuffix("_").replace("float", "f").replace("uint", "u").replace("int", "i")


_TELLING = (ELEMENTWISE - {Op.CAST, Op.BITCAST}) | {Op.REDUCE, Op.GATHER, Op.SCATTER, Op.FOLD}


def _times(sizes: tuple[int, ...] | list[int]) -> str:
    return "×".join(map(str, sizes)) or "1"
