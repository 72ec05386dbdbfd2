"""A node's agent played by hand: it speaks the real protocol, and makes its results up.

Its world of kernels: a schedule is a list of opts, each with an amount of 2, 3 or 5 on the next axis; three are
the most. The bigger the product of amounts, the faster. Nothing here knows what the control plane will do.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from fleet import db, sync
from fleet.agents.protocol import (
    AttemptReport,
    AttemptSpec,
    CandidateOutcome,
    CandidateRef,
    CandidateResult,
    CommandSpec,
    ConfirmSpec,
    Desired,
    DeviceReport,
    ExpandResult,
    ExpandSpec,
    Inventory,
    KernelRef,
    MeasureResult,
    MeasureSpec,
    Observed,
    Outcome,
    Program,
    blob_address,
    canonical_hash,
)
from fleet.blobs import Blobs

TARGET = {"arch": "acme-6-1+avx2", "compiler": "gcc 12.2.0"}
TARGET_ID = canonical_hash(TARGET)
GEMM = KernelRef(program=Program.GEMM, shape=[64, 64, 64])
KERNEL = {"nodes": ["made up"]}
KERNEL_HASH = blob_address(json.dumps(KERNEL).encode())  # a kernel's hash is that of its text
DEEPEST = 3


def inventory(cores: int = 2, slots: int = 2, **device: object) -> Inventory:
    """What a small node reports: one cpu device."""
    fields: dict[str, object] = {
        "name": "cpu",
        "kind": "cpu",
        "model": "Acme One",
        "arch": "acme-6-1+avx2",
        "target_id": TARGET_ID,
        "target": TARGET,
        "slots": slots,
        "memory_bytes": 8 << 30,
    }
    return Inventory(
        hostname="tiny.local",
        agent_version="0.1.0",
        cores=cores,
        memory_bytes=8 << 30,
        devices=[DeviceReport.model_validate(fields | device)],
    )


def gpu_inventory(gpus: int = 2, slots: int = 8) -> Inventory:
    """What a node with GPUs reports: gpu0, gpu1 and so on, beside its cpu."""
    found = inventory(slots=slots)
    more = [
        DeviceReport(name=f"gpu{number}", kind="gpu", model="Acme G", arch="sm_90", memory_bytes=80 << 30)
        for number in range(gpus)
    ]
    return found.model_copy(update={"devices": [*found.devices, *more]})


def time_of(schedule: list[list[Any]]) -> float:
    """Made-up seconds of a schedule."""
    return 1.0 / (1 + prod(opt[3] for opt in schedule))


def grown(schedule: list[list[Any]]) -> list[list[list[Any]]]:
    """The schedules one opt longer; none from the deepest."""
    if len(schedule) >= DEEPEST:
        return []
    return [[*schedule, ["UPCAST", "out", len(schedule), amount, None]] for amount in (2, 3, 5)]


Verdict = Callable[[str, list[list[Any]]], CandidateOutcome]


def all_well(_kind: str, _schedule: list[list[Any]]) -> CandidateOutcome:
    """Every candidate is right."""
    return CandidateOutcome.OK


@dataclass
class Agent:
    """One agent: what it runs, what it has to report, and every schedule it has measured."""

    sessions: sessionmaker[Session]
    blobs: Blobs
    node_id: int
    boot_id: str = "boot-1"
    sequence: int = 1  # the fixture's enrolment has used it
    generation: int = 0
    running: dict[int, AttemptSpec] = field(default_factory=dict)
    exited: dict[int, AttemptReport] = field(default_factory=dict)
    measured: list[str] = field(default_factory=list)
    verdict: Verdict = all_well

    def observed(self) -> Observed:
        """The next report."""
        self.sequence += 1
        live = [
            AttemptReport(attempt_id=spec.attempt_id, fence=spec.fence, state="running")
            for spec in self.running.values()
        ]
        return Observed(
            boot_id=self.boot_id,
            sequence=self.sequence,
            generation=self.generation,
            attempts=[*live, *self.exited.values()],
        )

    def sync(self, now: float) -> Desired:
        """Report, and do what the answer says."""
        with self.sessions.begin() as session:
            sync.record(session, self.node_id, self.observed(), now)
        with db.reading(self.sessions) as reader:
            desired = sync.desired(reader, self.node_id, now)
        self._apply(desired)
        return desired

    def _apply(self, desired: Desired) -> None:
        self.generation = desired.generation
        for attempt_id in desired.settled:
            self.exited.pop(attempt_id, None)
        wanted = {spec.attempt_id: spec for spec in desired.attempts}
        for attempt_id in [each for each in self.running if each not in wanted]:
            self.exit(attempt_id, Outcome.CANCELLED)
        for attempt_id, spec in wanted.items():
            if attempt_id not in self.exited:
                self.running[attempt_id] = spec

    def exit(self, attempt_id: int, outcome: Outcome, **said: Any) -> None:
        """An attempt ends; the next report says so, until it is settled."""
        spec = self.running.pop(attempt_id)
        self.exited[attempt_id] = AttemptReport(
            attempt_id=attempt_id, fence=spec.fence, state="exited", outcome=outcome, **said
        )

    def work(self, now: float) -> list[str]:
        """Finish everything that runs, but for commands to sleep; returns the kinds of what it did."""
        done = [each for each in self.running.values() if not _sleeps(each)]
        for attempt in done:
            result, artifacts = self._result(attempt, now)
            self.exit(attempt.attempt_id, Outcome.SUCCEEDED, result=result, artifacts=artifacts)
        return [attempt.spec.kind for attempt in done]

    def _result(self, attempt: AttemptSpec, now: float) -> tuple[dict[str, Any], dict[str, str]]:
        spec = attempt.spec
        if isinstance(spec, ExpandSpec):
            return self._expand(spec), {"kernel.json": self.put(KERNEL, now)}
        if isinstance(spec, MeasureSpec | ConfirmSpec):
            results = [self._try(spec.kind, each) for each in spec.candidates]
            sources = {found.source_hash: f"// {found.schedule}" for found in results}
            found = MeasureResult(kernel_hash=KERNEL_HASH, target_id=TARGET_ID, results=results)
            return found.model_dump(mode="json"), {"candidates.json": self.put(sources, now)}
        if isinstance(spec, CommandSpec):
            return {"exit_status": 0, "signal": None}, {"out.json": self.put({"argv": spec.argv}, now)}
        return {"slept_s": 0.0}, {}

    def _expand(self, spec: ExpandSpec) -> dict[str, Any]:
        parents = [[], *spec.survivors]
        found = {canonical_hash(each): each for parent in parents for each in grown(parent)}
        fresh = {key: each for key, each in found.items() if key not in spec.seen}
        ranked = sorted(fresh.items(), key=lambda pair: (time_of(pair[1]), pair[0]))[: spec.limit]
        return ExpandResult(
            kernel_hash=KERNEL_HASH,
            flops=2 * 64**3,
            bytes=3 * 4 * 64**2,
            candidates=[CandidateRef(hash=key, schedule=each) for key, each in ranked],
            generated=len(found),
            illegal=0,
            duplicate=len(found) - len(fresh),
        ).model_dump(mode="json")

    def _try(self, kind: str, candidate: CandidateRef) -> CandidateResult:
        if kind == "measure":
            self.measured.append(candidate.hash)
        outcome = self.verdict(kind, candidate.schedule)
        return CandidateResult(
            hash=candidate.hash,
            schedule=candidate.schedule,
            outcome=outcome,
            time_s=time_of(candidate.schedule) if outcome is CandidateOutcome.OK else None,
            source_hash=blob_address(f"// {candidate.schedule}".encode()),
        )

    def put(self, document: object, now: float) -> str:
        """Upload a JSON artifact."""
        with self.sessions.begin() as session:
            return self.blobs.put(session, json.dumps(document).encode(), now, holder="tenant:default")


def _sleeps(attempt: AttemptSpec) -> bool:
    spec = attempt.spec
    return isinstance(spec, CommandSpec) and (spec.argv or [""])[0] == "sleep"


class Watchful(Blobs):
    """A store that fails when it writes a file while somebody holds the writer's lock."""

    def __init__(self, directory: Path, database: Path) -> None:
        super().__init__(directory)
        self.database = database
        self.written = 0

    def _write(self, address: str, content: bytes) -> None:
        with closing(sqlite3.connect(self.database, timeout=0.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
        self.written += 1
        super()._write(address, content)
