"""From what the wire says of a kernel and its schedules to what the engine knows. InvalidGraph names what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.building import Candidate
from engine.errors import InvalidGraph
from engine.kernel import Kernel
from engine.opts import Schedule, schedule_from_json
from engine.programs import program
from engine.serialize import kernel_from_json
from fleet.agents.protocol import CandidateRef, KernelRef


def definition(ref: KernelRef, workdir: Path) -> Kernel:
    """The kernel that is meant; one that is given by its hash is among the attempt's input blobs."""
    if ref.program is not None:
        return program(ref.program.value, ref.shape or [], ref.dtype or "float32")
    return kernel_from_json(ref.document if ref.document is not None else _stored(ref.hash or "", workdir))


def _stored(address: str, workdir: Path) -> Any:
    try:
        return json.loads((workdir / "blobs" / address).read_bytes())
    except FileNotFoundError as error:
        raise InvalidGraph(f"no blob {address} is among the inputs of this attempt", "kernel.hash") from error
    except ValueError as error:
        raise InvalidGraph(f"blob {address} is not JSON", "kernel.hash") from error


def schedules(documents: Sequence[list[list[Any]]], field: str) -> list[Schedule]:
    """Schedules from their JSON."""
    return [schedule_from_json(document, f"{field}[{at}]") for at, document in enumerate(documents)]


def candidates(refs: Sequence[CandidateRef]) -> list[Candidate]:
    """Candidates under the hashes that the control plane knows them by."""
    read = schedules([ref.schedule for ref in refs], "candidates")
    return [Candidate(schedule, ref.hash, ref.score) for schedule, ref in zip(read, refs, strict=True)]
