"""A node that plays along in a search, by requests."""

from __future__ import annotations

from typing import Any

from api.deps import Parts
from fleet.agents.protocol import AttemptSpec, blob_address, canonical_hash
from fleet.client import Client
from tests.api.agent import Agent, exited, running
from tests.fleet.acting import TARGET_ID

GEMM = {"program": "gemm", "shape": [8, 8, 8]}
KERNEL_HASH = "ab" * 32
SCHEDULES = [[["split", 0, 4]], [["split", 1, 4]], [["split", 2, 4]]]
SOURCE = "void kernel(void) {}\n"
OUTCOMES = ["ok", "crashed", "ok"]


def expanded(attempt: AttemptSpec) -> dict[str, Any]:
    """What an expand says the first time: three candidates; later none."""
    first = not getattr(attempt.spec, "seen", [])
    candidates = [
        {"hash": canonical_hash(schedule), "schedule": schedule, "score": float(place)}
        for place, schedule in enumerate(SCHEDULES)
    ]
    found = {"kernel_hash": KERNEL_HASH, "flops": 1024.0, "bytes": 768.0, "generated": 9, "illegal": 1}
    return {"result": {**found, "duplicate": 0, "candidates": candidates if first else []}}


def measured(attempt: AttemptSpec, client: Client) -> dict[str, Any]:
    """What a measure or confirm says: each candidate with its time, and the sources as an artifact."""
    source_hash = blob_address(SOURCE.encode())
    address = client.put_blob(f'{{"{source_hash}": "void kernel(void) {{}}\\n"}}'.encode())
    hashes = [canonical_hash(schedule) for schedule in SCHEDULES]
    results = [
        {
            "hash": each.hash,
            "schedule": each.schedule,
            "outcome": OUTCOMES[hashes.index(each.hash)],
            "time_s": 0.001 * (3 - hashes.index(each.hash)) if each.hash != hashes[1] else None,
            "source_hash": source_hash,
        }
        for each in attempt.spec.candidates  # type: ignore[union-attr]
    ]
    result = {"kernel_hash": KERNEL_HASH, "target_id": TARGET_ID, "results": results}
    return {"result": result, "artifacts": {"candidates.json": address}}


def work(parts: Parts, client: Client, agent: Agent) -> None:
    """Play the node until there is nothing left to do."""
    for _ in range(20):
        parts.controllers.tick()
        desired = agent.sync()
        if not desired.attempts:
            return
        agent.sync(attempts=[running(attempt) for attempt in desired.attempts])
        reports = [
            exited(
                attempt, **expanded(attempt) if attempt.spec.kind == "expand" else measured(attempt, client)
            )
            for attempt in desired.attempts
        ]
        agent.sync(attempts=reports)
    raise AssertionError("the search does not end")
