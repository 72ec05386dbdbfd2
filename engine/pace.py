"""How long a search's steps take: what decides whether one more may be begun before its time is over.

A step that was begun is not cut short: a compiler is not stopped half way, and neither is a verification. So a search
that is to end in time begins nothing that, taking as long as its like took lately, would end too late.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# So many steps of a kind are remembered: one that hung until its deadline is not held against all that follow.
REMEMBERED = 8


@dataclass
class Pace:
    """A clock (seconds, monotonic) and the steps of each kind that were taken last."""

    clock: Callable[[], float] = time.monotonic
    taken: dict[str, deque[float]] = field(default_factory=dict)

    @contextmanager
    def step(self, kind: str) -> Iterator[None]:
        """What is done within is a step of that kind."""
        began = self.clock()
        try:
            yield
        finally:
            self.taken.setdefault(kind, deque(maxlen=REMEMBERED)).append(self.clock() - began)

    def longest_s(self, kind: str, unknown_s: float = 0.0) -> float:
        """The longest that one took lately; `unknown_s` if there was none."""
        return max(tuple(self.taken.get(kind, ())), default=unknown_s)

    def may_begin(self, kind: str, until: float) -> bool:
        """Would a step that is begun now end by `until`?"""
        now = self.clock()
        return now < until and now + self.longest_s(kind) <= until
