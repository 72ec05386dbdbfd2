"""What may go and what stays. Pure: settings and the time → bounds; blobs and what is referenced → a choice.

Nothing that something refers to goes; neither does a blob that was uploaded, asked for or named by a request a short
time ago, since what will refer to it may still be on its way. The audit is not collected at all: its chain is to be
verified from its first row on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

DAY_S = 86_400.0
LEAST_GRACE_S = 7200.0  # of blobs: touching one is written once an hour at most
ADDRESS = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class Retention:
    """How long what is kept, in seconds.

    `events_s`: events, deliveries that have ended, idempotency keys; `logs_s`: of attempts that have ended;
    `history_s`: jobs that have ended with their attempts, searches without a kernel, runs of crons (the last 200 of
    each stay); `blobs_s`: the grace of a blob that nothing refers to. `every_s`: between two passes.
    """

    events_s: float = 30 * DAY_S
    logs_s: float = 30 * DAY_S
    history_s: float = 90 * DAY_S
    blobs_s: float = 1 * DAY_S
    every_s: float = 3600.0

    def bounds(self, now: float) -> Bounds:
        """What is older than these may go."""
        return Bounds(
            now - self.events_s,
            now - self.logs_s,
            now - self.history_s,
            now - max(self.blobs_s, LEAST_GRACE_S),
        )


@dataclass(frozen=True)
class Bounds:
    """Epoch seconds: what ended, or was touched last, before them may go."""

    events: float
    logs: float
    history: float
    blobs: float


@dataclass(frozen=True)
class BlobView:
    """A blob: `touched_at` is when it was uploaded, asked for or named last."""

    address: str
    size: int
    touched_at: float


def addresses(text: str) -> Iterable[str]:
    """Whatever in a text could be a blob's address: to take too much for a reference keeps a file, to take too little
    would lose one."""
    return ADDRESS.findall(text)


def going(blobs: Iterable[BlobView], referenced: Collection[bytes], bounds: Bounds) -> list[BlobView]:
    """The blobs that may go; `referenced` are addresses as bytes."""
    return [
        each
        for each in blobs
        if each.touched_at < bounds.blobs and bytes.fromhex(each.address) not in referenced
    ]
