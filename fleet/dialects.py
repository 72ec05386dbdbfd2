"""Which versions of the protocol this control plane speaks, and what of an answer each of them knows. Pure.

An agent says its version with its inventory. From two versions back on it is understood, and answered with the fields
that its version had: it refuses others. One that is older, or newer than this control plane, is refused with what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.agents.protocol import PROTOCOL_VERSION, Desired
from fleet.errors import InvalidSpec

FIRST = 2  # before it nodes had bearer tokens, which are accepted no more
OLDEST = max(FIRST, PROTOCOL_VERSION - 2)

# What a version's agents know of what they are told; what came later is left out for them. A version is added here when
# the next one begins.
_KNOWN: Mapping[int, Mapping[str, frozenset[str]]] = {
    2: {
        "desired": frozenset({"generation", "attempts", "settled", "lease_s", "poll_s", "rotate_key"}),
        "attempt": frozenset(
            {"attempt_id", "job_id", "fence", "spec", "device", "exclusive", "timeout_s", "blobs"}
        ),
        "kinds": frozenset({"noop", "kernel", "expand", "measure", "confirm"}),
    },
    3: {
        "desired": frozenset(
            {"generation", "attempts", "access", "settled", "lease_s", "poll_s", "rotate_key", "update"}
        ),
        "attempt": frozenset(
            {
                *("attempt_id", "job_id", "fence", "spec", "device", "exclusive", "timeout_s", "blobs"),
                *("gpus", "cpus", "gang", "array"),
            }
        ),
        # It had commands, without data sets and secrets: they wait for newer agents.
        "kinds": frozenset({"noop", "kernel", "expand", "measure", "confirm"}),
    },
}


def check(version: int) -> None:
    """InvalidSpec for a version that is not spoken here, with what to do about it."""
    spoken = f"this control plane speaks {OLDEST} to {PROTOCOL_VERSION}"
    if version < OLDEST:
        raise InvalidSpec(
            "inventory.protocol",
            f"version {version} is spoken no more: {spoken}. Bring the agent up to date: run its installer again",
        )
    if version > PROTOCOL_VERSION:
        raise InvalidSpec(
            "inventory.protocol",
            f"version {version} is not spoken yet: {spoken}. Bring the control plane up to date first",
        )


def knows(version: int, kind: str) -> bool:
    """Whether an agent of this version can do jobs of this kind."""
    return version not in _KNOWN or kind in _KNOWN[version]["kinds"]


def answer(desired: Desired, version: int) -> dict[str, Any] | None:
    """What an agent of an older version is told, as JSON; None for one that knows all there is."""
    known = _KNOWN.get(version)
    if known is None:
        return None
    said = desired.model_dump(mode="json", by_alias=True)
    told = {name: value for name, value in said.items() if name in known["desired"]}
    told["attempts"] = [
        {name: value for name, value in attempt.items() if name in known["attempt"]}
        for attempt in said["attempts"]
        if attempt["spec"]["kind"] in known["kinds"]
    ]
    return told
