"""What a search's next step needs out of the artifacts of its jobs, read and kept before its transaction begins.

A source is kept as a blob of its own, whose address is the `source_hash` that its candidate came with: what does not
match is somebody's mistake and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet import documents
from fleet.advance import Close, Conclude, Confirmed, Propose, Step
from fleet.agents.protocol import MAX_KERNEL_JSON, QUARANTINED, CandidateResult
from fleet.blobs import Blobs
from fleet.errors import FleetError


@dataclass(frozen=True)
class Kept:
    """The kernel's document, and the size in bytes of each kept source, by its hash."""

    document: dict[str, Any] | None = None
    sources: Mapping[str, int] = field(default_factory=dict)


def keep(blobs: Blobs, step: Step) -> Kept:
    """Read what the step will want: the kernel that was expanded; the sources of the winner and of culprits."""
    match step:
        case Propose() | Conclude() if step.found is not None:
            address = step.artifacts.get("kernel.json")
            return Kept(document=_kernel(blobs, address) if address == step.found.kernel_hash else None)
        case Close():
            artifacts = dict.fromkeys(job.artifacts.get("candidates.json") for job, _ in step.results)
            return Kept(sources=_sources(blobs, artifacts, _culprits(each for _, each in step.results)))
        case Confirmed():
            wanted = _culprits(step.results) | _hashes([step.winner] if step.winner else [])
            return Kept(
                sources=_sources(blobs, [step.job.artifacts.get("candidates.json"), *step.sources], wanted)
            )
    return Kept()


def _culprits(results: Iterable[CandidateResult]) -> set[str]:
    return _hashes(result for result in results if result.outcome in QUARANTINED)


def _hashes(results: Iterable[CandidateResult]) -> set[str]:
    return {result.source_hash for result in results if result.source_hash is not None}


def _sources(blobs: Blobs, artifacts: Iterable[str | None], wanted: set[str]) -> dict[str, int]:
    """Keep the wanted sources; the artifacts are looked through in order until all are found."""
    kept: dict[str, int] = {}
    for address in artifacts:
        missing = wanted - kept.keys()
        if missing and address is not None:
            found = _object(blobs, address)
            kept |= {
                name: size for name in missing & found.keys() if (size := _source(blobs, name, found[name]))
            }
    return kept


def _source(blobs: Blobs, name: str, source: Any) -> int:
    """The source's size once it is kept; 0 for what is not the source of that name."""
    if not isinstance(source, str):
        return 0
    content = source.encode()
    try:
        blobs.keep(content, expected=name)
    except FleetError:
        return 0
    return len(content)


def _kernel(blobs: Blobs, address: str) -> dict[str, Any] | None:
    found = _object(blobs, address, MAX_KERNEL_JSON)
    return found or None


def _object(blobs: Blobs, address: str, most_bytes: int | None = None) -> dict[str, Any]:
    """A JSON object from a blob; empty when there is none that can be read."""
    try:
        content = blobs.get(address)
        found = documents.read(content) if most_bytes is None or len(content) <= most_bytes else {}
    except (FleetError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
