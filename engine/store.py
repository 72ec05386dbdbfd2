"""Everything that was ever measured, on disk: JSON records, C sources by content, the journal of launches.

    journal/<kernel>.jsonl                                 what was about to run, and what became of it
    sources/<hash>.c                                       every candidate's C
    candidates/<kernel>/<target>-<threads>/<schedule>.json every candidate's record
    best/<kernel>-<target>-<threads>.json                  the fastest right one
    alike/<structure>-<target>-<threads>/<kernel>.json     winners, by what kernels of other sizes share
    quarantine/<kernel>-<schedule>.c or .py                one runnable file for each that crashed, hung or lied
    objects/<hash>.so or .o                                compiled code (engine.toolchain)
    aside/<name>                                           files that turned out to be damaged

What is here survives a power cut (engine.durable). Should a file be damaged all the same, nothing of it is used: a
record carries a digest of itself, sources are named by theirs. It is moved to `aside`, and `tell` is told.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine import durable
from engine.errors import InvalidGraph
from engine.outcome import QUARANTINED, Measured, Outcome, measured_from_json

DIGEST = "sha3-256"


def to_stderr(line: str) -> None:
    """Tell whoever looks at the terminal."""
    print(line, file=sys.stderr)


def source_hash(source: str) -> str:
    """Hex SHA3-256 of a source's UTF-8 bytes: its name here and as a blob."""
    return hashlib.sha3_256(source.encode()).hexdigest()


class Store:
    """A directory of measurements, shared by any number of processes; made when first written to."""

    def __init__(self, directory: Path, tell: Callable[[str], None] = to_stderr) -> None:
        self.directory = Path(directory)
        self.torn_lines = 0  # of journals, met so far
        self.tell = tell

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

    def choose(
        self, kernel_hash: str, target_id: str, threads: int, measured: Measured, structure: str = ""
    ) -> None:
        """Make the winner of a race the best, whatever any candidate took alone: that may have flattered.

        With a structure (a hash that kernels which differ in their sizes share) it can be found by that, too.
        """
        if measured.source:
            durable.sync_file(self._source(self.add_source(measured.source)))
        _write(self._best(kernel_hash, target_id, threads), measured.to_json())
        if structure:
            _write(self._alike(structure, target_id, threads) / f"{kernel_hash}.json", measured.to_json())

    def alike(self, structure: str, target_id: str, threads: int) -> list[Measured]:
        """The winners of searches of kernels of one structure, the newest first."""
        places = self._alike(structure, target_id, threads).glob("*.json")
        found = (self._read(place) for place in sorted(places, key=_written_s, reverse=True))
        return [winner for winner in found if winner is not None]

    def add_source(self, source: str) -> str:
        """Keep a source; its hash. It can be made again of kernel and schedule, so a power cut may take it."""
        name, content = source_hash(source), source.encode()
        place = self._source(name)
        if not place.exists() or place.read_bytes() != content:
            durable.write(place, content, sync=False)
        return name

    def source(self, name: str) -> str:
        """The source of that hash; KeyError if it is not here, whole."""
        place = self._source(name)
        try:
            content = place.read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None
        if hashlib.sha3_256(content).hexdigest() != name:
            self._set_aside(place, "its content is not what its name says")
            raise KeyError(name)
        return content.decode()

    def get(self, kernel_hash: str, target_id: str, threads: int, schedule: str) -> Measured | None:
        """The record of one schedule (by its hash), or None."""
        return self._read(self._candidates(kernel_hash, target_id, threads) / f"{schedule}.json")

    def candidates(self, kernel_hash: str, target_id: str, threads: int) -> Iterator[Measured]:
        """Every candidate of a kernel, in the order of their hashes."""
        for place in sorted(self._candidates(kernel_hash, target_id, threads).glob("*.json")):
            found = self._read(place)
            if found is not None:
                yield found

    def killer(self, kernel_hash: str, target_id: str, threads: int, measured: Measured) -> Measured | None:
        """What became of the same schedule's same code before, if that was harm or a lie."""
        found = self.get(kernel_hash, target_id, threads, measured.hash)
        if found is None or found.outcome not in QUARANTINED or found.object_hash != measured.object_hash:
            return None
        return found

    def best(self, kernel_hash: str, target_id: str, threads: int) -> Measured | None:
        """The winner of the last search, or of what was measured since the fastest right candidate; or None."""
        place = self._best(kernel_hash, target_id, threads)
        was_there = place.exists()
        found = self._read(place)
        if found is None and was_there and not place.exists():  # it was damaged
            found = self._fastest(kernel_hash, target_id, threads)
            if found is not None:
                _write(place, found.to_json())
        return found

    def _fastest(self, kernel_hash: str, target_id: str, threads: int) -> Measured | None:
        right = [
            found
            for found in self.candidates(kernel_hash, target_id, threads)
            if found.outcome is Outcome.OK and found.time_s is not None
        ]
        return min(right, key=lambda found: found.time_s or 0.0, default=None)

    # ---------------------------------------------------------------------------------------- journal

    def launch(self, kernel_hash: str, schedule: str, phase: str, facts: Mapping[str, object]) -> None:
        """Say on disk that a candidate (by its schedule's hash) is about to run, how, and what is known of it."""
        self._note(kernel_hash, {"event": "launch", "hash": schedule, "phase": phase, **facts})

    def landed(self, kernel_hash: str, schedule: str, phase: str, outcome: Outcome) -> None:
        """Say on disk what became of it."""
        entry = {"event": "landed", "hash": schedule, "phase": phase, "outcome": outcome.value}
        self._note(kernel_hash, entry, sync=False)  # lost with the power, it would count as one death

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
        durable.write(place, text.encode())
        return place

    # ----------------------------------------------------------------------------------------- places

    def _source(self, name: str) -> Path:
        return self.directory / "sources" / f"{name}.c"

    def _candidates(self, kernel_hash: str, target_id: str, threads: int) -> Path:
        return self.directory / "candidates" / kernel_hash / f"{target_id}-{threads}"

    def _best(self, kernel_hash: str, target_id: str, threads: int) -> Path:
        return self.directory / "best" / f"{kernel_hash}-{target_id}-{threads}.json"

    def _alike(self, structure: str, target_id: str, threads: int) -> Path:
        return self.directory / "alike" / f"{structure}-{target_id}-{threads}"

    def _read(self, place: Path) -> Measured | None:
        """A record with its source if that is here; None if there is none, or none that this version reads."""
        try:
            content = place.read_bytes()
        except FileNotFoundError:
            return None
        document = _checked(content)
        if document is None:
            self._set_aside(place, "its content does not match its digest")
            return None
        source = ""
        with suppress(KeyError):
            source = self.source(str(document.get("source_hash")))
        try:
            return measured_from_json(document, source)
        except (KeyError, TypeError, ValueError, InvalidGraph):
            return None  # a newer version's

    def _set_aside(self, place: Path, why: str) -> None:
        """Move a damaged file out of the way, and say so; another process may have done it."""
        name = "_".join(place.relative_to(self.directory).parts)
        with suppress(FileNotFoundError):
            durable.make_folder(self.directory / "aside")
            os.replace(place, self.directory / "aside" / name)
            self.tell(f"damaged: {place}: {why}; it is not used, and kept as aside/{name}")

    def _journal_of(self, kernel_hash: str) -> Path:
        return self.directory / "journal" / f"{kernel_hash}.jsonl"

    def _note(self, kernel_hash: str, entry: Mapping[str, object], *, sync: bool = True) -> None:
        line = json.dumps(entry, separators=(",", ":"))
        durable.append(self._journal_of(kernel_hash), line.encode(), sync=sync)

    def _journal(self, kernel_hash: str) -> Iterator[dict[str, object]]:
        """The entries that can be read; the others, of machines that lost power, are counted."""
        place = self._journal_of(kernel_hash)
        torn = 0
        with suppress(FileNotFoundError):
            for line in place.read_bytes().split(b"\n"):
                entry = _entry(line)
                if entry is not None:
                    yield entry
                elif line:
                    torn += 1
        if torn:
            self.torn_lines += torn
            self.tell(f"damaged: {place}: {torn} torn line{'s' * (torn > 1)} ignored")


def _entry(line: bytes) -> dict[str, object] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "event" in found else None


def _checked(content: bytes) -> dict[str, Any] | None:
    """The record that some bytes are, without its digest; None if they are damaged."""
    try:
        document = json.loads(content)
        digest = document.pop(DIGEST)
    except (ValueError, AttributeError, TypeError, KeyError):
        return None
    found: dict[str, Any] = document
    return found if digest == _digest(found) else None


def _digest(document: Mapping[str, object]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha3_256(text.encode()).hexdigest()


def _written_s(place: Path) -> float:
    try:
        return place.stat().st_mtime
    except FileNotFoundError:  # set aside by another process
        return 0.0


def _faster(measured: Measured, best: Measured | None) -> bool:
    if best is None or best.time_s is None:
        return True
    return measured.time_s is not None and measured.time_s < best.time_s


def _write(place: Path, document: dict[str, object]) -> None:
    sealed = {**document, DIGEST: _digest(document)}
    durable.write(place, (json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
