"""`python -m engine profile`: calibrate where that is needed, run the script, say what its kernels did."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import reduce
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from engine.options import current
from engine.profile.calibration import STEPS, measure
from engine.profile.lines import lines
from engine.profile.peaks import Peaks, keep, load
from engine.profile.recording import record
from engine.profile.report import describe, print_report, to_json
from engine.profile.script import run_script
from engine.target import processor_target


def profile_script(script: Path, arguments: Sequence[str], limit: int, as_json: bool) -> int:
    """Run the script, then print its kernels: a table, or one line of JSON, the last of stdout. The script's status."""
    faults = _faults()
    with record() as events:
        status = run_script(script, arguments)
    faults = _faults() - faults
    wanted = {runs.subject.threads for runs in events.kernels()[:limit] if runs.subject.scheduled}
    peaks = calibrated(wanted)
    found = lines(events, peaks, limit)
    if as_json:
        print(json.dumps(to_json(events, found, peaks)))
    else:
        print_report(Console(), events, found, peaks, faults)
    return status


def calibrate(as_json: bool, quiet: bool) -> None:
    """Measure one thread and all of them anew, keep that, and print it unless `quiet`."""
    everything = current().threads or processor_target().cores
    peaks = calibrated({1, everything}, anew=True)
    if quiet:
        return
    if as_json:
        print(json.dumps([asdict(peaks[threads]) for threads in sorted(peaks)]))
        return
    for threads in sorted(peaks):
        Console().print(describe(peaks[threads]), highlight=False)


def calibrated(wanted: Iterable[int], anew: bool = False) -> dict[int, Peaks]:
    """The peaks for these numbers of threads: what is kept, and measured and kept what is not (or all, `anew`)."""
    folder, target = current().cache / "peaks", processor_target()
    kept = load(folder, target)
    missing = sorted(threads for threads in wanted if anew or threads not in kept)
    known = {threads: peaks for threads, peaks in kept.items() if threads not in missing}
    for threads in missing:
        fewer = [peaks for number, peaks in known.items() if number < threads]
        known[threads] = reduce(Peaks.at_least, fewer, _measured(threads))
        keep(folder, target, known)
    return {threads: known[threads] for threads in wanted}


def _measured(threads: int) -> Peaks:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        title = f"calibrating {threads} thread{'s' * (threads > 1)}"
        task = progress.add_task(title, total=STEPS)

        def advance(done: int, what: str) -> None:
            progress.update(task, completed=done, description=f"{title}: {what}")

        return measure(threads, advance)


def _faults() -> int:
    """Page faults of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
