"""Everything that was ever measured, on disk: JSON records, C sources by content, the journal of launches.

    journal/<kernel>.jsonl                                 what was about to run, and what became of it
    sources/<hash>.c                                       every candidate's C
    candidates/<kernel>/<target>-<threads>/<schedule>.json every candidate's record
    best/<kernel>-<target>-<threads>.json                  the fastest right one
    quarantine/<kernel>-<schedule>.c or .py                one runnable file for each that crashed, hung or lied
    objects/<hash>.so or .o                                compiled code (engine.toolchain)

Files are written beside their place, synced and renamed, so that a reader sees the old or the new one, whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.errors import InvalidGraph
from engine.outcome import Measured, Outcome, measured_from_json


def source_hash(source: str) -> str:
    """Hex SHA3-256 of a source's UTF-8 bytes: its name here and as a blob."""
    return hashlib.sha3_256(source.encode()).hexdigest()


class Store:
    """A directory of measurements, shared by any number of processes; made when first written to."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)

    @property
    def objects(self) -> Path:
        """Where compiled code goes."""
        return self.directory / "objects"

    # ------------------------------------------------------------------------------------- candidates

    def add(self, kernel_hash: str, target_id: str, threads: int, measured: Measured) -> None:
        """Keep a candidate, its source, and its place as the best if it is that. Skipped ones are not kept."""
        if measured.outcome is Outcome.SKIPPED:
            return
        if measured.source:
            self.add_source(measured.source)
        place = self._candidates(kernel_hash, target_id, threads) / f"{measured.hash}.json"
        _write(place, measured.to_json())
        best = self.best(kernel_hash, target_id, threads)
        if measured.outcome is Outcome.OK and _faster(measured, best):
            _write(self._best(kernel_hash, target_id, threads), measured.to_json())

    def choose(self, kernel_hash: str, target_id: str, threads: int, measured: Measured) -> None:
        """Make the winner of a race the best, whatever any candidate took alone: that may have flattered."""
        _write(self._best(kernel_hash, target_id, threads), measured.to_json())

    def add_source(self, source: str) -> str:
        """Keep a source; its hash."""
        name = source_hash(source)
        place = self.directory / "sources" / f"{name}.c"
        if not place.exists():
            _write_text(place, source)
        return name

    def source(self, name: str) -> str:
        """The source of that hash; KeyError if it is not here."""
        place = self.directory / "sources" / f"{name}.c"
        if not place.exists():
            raise KeyError(name)
        return place.read_text(encoding="utf-8")

    def get(self, kernel_hash: str, target_id: str, threads: int, schedule: str) -> Measured | None:
        """The record of one schedule (by its hash), or None."""
        return self._read(self._candidates(kernel_hash, target_id, threads) / f"{schedule}.json")

    def candidates(self, kernel_hash: str, target_id: str, threads: int) -> Iterator[Measured]:
        """Every candidate of a kernel, in the order of their hashes."""
        for place in sorted(self._candidates(kernel_hash, target_id, threads).glob("*.json")):
            found = self._read(place)
            if found is not None:
                yield found

    def best(self, kernel_hash: str, target_id: str, threads: int) -> Measured | None:
        """The winner of the last search, or of what was measured since the fastest right candidate; or None."""
        return self._read(self._best(kernel_hash, target_id, threads))

    # ---------------------------------------------------------------------------------------- journal

    def launch(self, kernel_hash: str, schedule: str, phase: str, facts: Mapping[str, object]) -> None:
        """Say on disk that a candidate (by its schedule's hash) is about to run, how, and what is known of it."""
        self._note(kernel_hash, {"event": "launch", "hash": schedule, "phase": phase, **facts})

    def landed(self, kernel_hash: str, schedule: str, phase: str, outcome: Outcome) -> None:
        """Say on disk what became of it."""
        entry = {"event": "landed", "hash": schedule, "phase": phase, "outcome": outcome.value}
        self._note(kernel_hash, entry)

    def aborted(self, kernel_hash: str, schedule: str, phase: str) -> None:
        """Say on disk that somebody ended the process that ran it: its last launch says nothing about it."""
        self._note(kernel_hash, {"event": "aborted", "hash": schedule, "phase": phase})

    def in_flight(self, kernel_hash: str) -> Counter[tuple[str, str]]:
        """(schedule's hash, phase) launched and not landed since, with how often: what ran when a process died.

        Each phase is counted alone, or one that is right on a small shape could kill at the full one for ever.
        """
        launched: Counter[tuple[str, str]] = Counter()
        for entry in self._journal(kernel_hash):
            run = str(entry.get("hash")), str(entry.get("phase"))
            step = {"launch": 1, "aborted": -1}.get(str(entry.get("event")))
            launched[run] = 0 if step is None else max(0, launched[run] + step)
        return +launched

    # ----------------------------------------------------------------------------------------- repros

    def repro(self, kernel_hash: str, schedule: str, text: str, suffix: str = ".c") -> Path:
        """Keep the one-file repro of a quarantined candidate; its path."""
        place = self.directory / "quarantine" / f"{kernel_hash[:16]}-{schedule[:16]}{suffix}"
        _write_text(place, text)
        return place

    # ----------------------------------------------------------------------------------------- places

    def _candidates(self, kernel_hash: str, target_id: str, threads: int) -> Path:
        return self.directory / "candidates" / kernel_hash / f"{target_id}-{threads}"

    def _best(self, kernel_hash: str, target_id: str, threads: int) -> Path:
        return self.directory / "best" / f"{kernel_hash}-{target_id}-{threads}.json"

    def _read(self, place: Path) -> Measured | None:
        """A record with its source; None if there is none or it cannot be read (a newer version's, a torn disk)."""
        try:
            document = json.loads(place.read_text(encoding="utf-8"))
            name = document.get("source_hash")
            source = self.source(name) if name else ""
            return measured_from_json(document, source)
        except (FileNotFoundError, KeyError, TypeError, ValueError, InvalidGraph):
            return None

    def _journal_of(self, kernel_hash: str) -> Path:
        return self.directory / "journal" / f"{kernel_hash}.jsonl"

    def _note(self, kernel_hash: str, entry: Mapping[str, object]) -> None:
        place = self._journal_of(kernel_hash)
        place.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(entry, separators=(",", ":")) + "\n"
        journal = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(journal, line.encode())
            os.fsync(journal)
        finally:
            os.close(journal)

    def _journal(self, kernel_hash: str) -> Iterator[dict[str, object]]:
        place = self._journal_of(kernel_hash)
        if not place.exists():
            return
        for line in place.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue  # the last line of a machine that lost power


def _faster(measured: Measured, best: Measured | None) -> bool:
    if best is None or best.time_s is None:
        return True
    return measured.time_s is not None and measured.time_s < best.time_s


def _write(place: Path, document: dict[str, object]) -> None:
    _write_text(place, json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _write_text(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=place.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, place)
    except BaseException:
        os.unlink(scratch)
        raise
