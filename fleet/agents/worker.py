"""The agent's tick: observe → sync → plan → apply.

Two exchanges with the server run side by side. A long poll is parked in a thread of its own, so that news
arrive at once; what changes here (an attempt ended, progress) is said at once by a sync that does not wait.
Both carry everything that is so, under a sequence number, so it does not matter which arrives first.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.agents.access import AccessKeeper
from fleet.agents.access_spec import AccessReport
from fleet.agents.client import ControlPlane, ControlPlaneError, Refused, Rejected, backoff
from fleet.agents.hints import Hints
from fleet.agents.instruments import Instruments
from fleet.agents.journal import Journal
from fleet.agents.plan import plan
from fleet.agents.processes import clock
from fleet.agents.protocol import (
    AttemptReport,
    CachedData,
    Desired,
    Inventory,
    Observed,
    Outcome,
    ResetReport,
    UpdateReport,
)
from fleet.agents.resets import Resets
from fleet.agents.runner import Attempt, Runner, Shipped, report
from fleet.agents.transfers import Transfers
from fleet.agents.updates import Updates

_PROGRESS_EVERY_S = 0.25
_LOOK_S = 0.5  # how often living attempts are looked at without a hint
_IDLE_LOOK_S = 5.0
_REFUSED_PAUSE_S = 30.0
_LONGEST_POLL_S = 60.0
_CONFLICT = 409
_log = logging.getLogger(__name__)
Fact = tuple[int, int, Outcome | None]  # attempt, fence, how it ended


@dataclass(frozen=True)
class _Said:
    """What one exchange told the server, as far as a change of it is news."""

    sequence: int = 0
    facts: frozenset[Fact] = frozenset()
    progress: tuple[Any, ...] = ()
    at: float = 0.0


class Link:
    """What was said to the server and what it answered. All of it is guarded: two threads exchange."""

    def __init__(
        self,
        control: ControlPlane,
        journal: Journal,
        inventory: Inventory,
        node_id: int = 0,
        access: AccessKeeper | None = None,
        updates: Updates | None = None,
        data: Callable[[], list[CachedData]] = list,
        resets: Callable[[], list[ResetReport]] = list,
    ) -> None:
        self._control = control
        self._data = data
        self._resets = resets
        self._resets_said: list[ResetReport] = []
        self._data_said: list[CachedData] | None = None  # what a sync has carried last
        self._updates = updates
        self._update_said: UpdateReport | None = None
        self._node_id = node_id
        self._rotating = threading.Lock()
        self._journal = journal
        self._guard = threading.Lock()
        self._applied = 0
        self._was_applied = threading.Event()
        self._inventory: Inventory | None = inventory  # until a sync has carried it
        self._reports: list[AttemptReport] = []
        self._access = access
        self._access_said: AccessReport | None = None  # what a sync has carried last
        # What the server knows or is being told: the last thing said that has not failed.
        self._said = _Said()
        self._failures = 0
        self._not_before = 0.0
        self.desired: Desired | None = None

    def observe(self, reports: list[AttemptReport]) -> None:
        """This is so now."""
        with self._guard:
            self._reports = reports

    def applied(self, generation: int, reports: list[AttemptReport]) -> None:
        """The desired state of this generation is applied, and this is so since."""
        with self._guard:
            self._applied, self._reports = generation, reports
            self._was_applied.set()

    def wait_applied(self, timeout_s: float) -> bool:
        """Until the latest desired state has been applied, for at most so long; whether it has."""
        with self._guard:
            if self.desired is not None and self.desired.generation == self._applied:
                return True
            self._was_applied.clear()
        self._was_applied.wait(timeout_s)
        return False

    def news_in(self) -> float | None:
        """Seconds until there is something to say at once; None when the server knows all, or is being told."""
        with self._guard:
            pause = max(0.0, self._not_before - clock())
            if self.desired is None or _facts(self._reports) - self._said.facts or self._access_news():
                return pause
            if self._updates is not None and self._updates.report() != self._update_said:
                return pause
            if self._data() != (self._data_said or []) or self._resets_news():
                return pause
            if _progress(self._reports) != self._said.progress:
                return max(pause, self._said.at + _PROGRESS_EVERY_S - clock())
            return None

    def _resets_news(self) -> bool:
        return any(report not in self._resets_said for report in self._resets())

    def _access_news(self) -> bool:
        """Logins stand otherwise than was said; a number alone can wait for the next sync."""
        found = None if self._access is None else self._access.report()
        if found is None or self._access_said is None:
            return found is not None
        return found != self._access_said.model_copy(update={"generation": found.generation})

    def retry_in(self) -> float:
        """Seconds for which the server is left alone after a failure."""
        with self._guard:
            return max(0.0, self._not_before - clock())

    def poll_s(self) -> float:
        """How long to park: what the server said, but well within the lease that parking renews."""
        desired = self.desired
        return 0.0 if desired is None else min(desired.poll_s, desired.lease_s / 2, _LONGEST_POLL_S)

    def exchange(self, wait_s: float) -> bool:
        """One sync; False when it failed, which delays the next. A newer desired state is in `desired` after it."""
        return self.send(self.observed(wait_s))

    def observed(self, wait_s: float) -> Observed:
        """All that is so, numbered; to be sent at once."""
        with self._guard:  # the number and the content are of one moment
            sequence = self._journal.next_sequence()
            self._said = _Said(sequence, _facts(self._reports), _progress(self._reports), clock())
            access = None if self._access is None else self._access.report()
            data = self._data()
            self._update_said = None if self._updates is None else self._updates.report()
            self._resets_said = self._resets()
            return Observed(
                boot_id=self._journal.boot_id,
                sequence=sequence,
                generation=self._applied,
                inventory=self._inventory,
                attempts=self._reports,
                access=None if access == self._access_said else access,
                update=self._update_said,
                data=None if data == self._data_said else data,
                resets=self._resets_said,
                wait_s=wait_s,
            )

    def send(self, observed: Observed) -> bool:
        """Send it and take in the answer; False when there was none that helps."""
        sent = clock()
        try:
            desired = self._control.sync(observed)
        except ControlPlaneError as error:
            self._failed(error, observed)
            return False
        self._journal.renew(sent, desired.lease_s)
        self._succeeded(observed, desired)
        if self._updates is not None:
            self._updates.heard(observed.update, desired.update)
        if desired.rotate_key or self._control.rotation_pending():
            self._rotate()
        return True

    def _rotate(self) -> None:
        """Bring a new key; one that fails is tried again after the next exchange."""
        if not self._rotating.acquire(blocking=False):
            return  # the other thread is at it
        try:
            _log.info("signing with a new key, %s", self._control.rotate_key(self._node_id)[:16])
        except ControlPlaneError as error:
            _log.warning("the node's key could not be changed: %s", error)
        finally:
            self._rotating.release()

    def _succeeded(self, observed: Observed, desired: Desired) -> None:
        with self._guard:
            if observed.access is not None:
                self._access_said = observed.access
            if observed.data is not None:
                self._data_said = observed.data
            if self._failures:
                _log.info("the control plane answers again")
            self._failures = 0
            self._not_before = 0.0
            self._inventory = None
            if self.desired is None or desired.generation >= self.desired.generation:
                self.desired = desired

    def _failed(self, error: ControlPlaneError, observed: Observed) -> None:
        with self._guard:
            overtaken = observed.sequence < self._said.sequence
            if isinstance(error, Rejected) and error.status == _CONFLICT and overtaken:
                return  # the later one said it all
            self._said = _Said() if not overtaken else self._said
            self._update_said, self._resets_said = None, []
            self._failures += 1
            pause = backoff(self._failures, random.random())
            if self.desired is not None:  # several tries within one lease
                pause = min(pause, self.desired.lease_s / 4)
            if isinstance(error, Refused):
                pause = _REFUSED_PAUSE_S * random.uniform(0.5, 1.0)
                _log.error("the control plane refuses this node: %s. Trying again in %.0f s", error, pause)
            elif self._failures in (1, 2) or self._failures % 10 == 0:
                _log.warning("sync: %s (failure %d)", error, self._failures)
            self._not_before = clock() + pause


def _facts(reports: Sequence[AttemptReport]) -> frozenset[Fact]:
    """What is news when it is new: attempts that run and that ended. That one starts or is forgotten can wait."""
    return frozenset(
        (item.attempt_id, item.fence, item.outcome) for item in reports if item.state != "starting"
    )


def _progress(reports: Sequence[AttemptReport]) -> tuple[Any, ...]:
    return tuple(item.progress for item in reports)


class Worker:
    """One agent at work, until `stop` is set and hinted."""

    def __init__(
        self,
        link: Link,
        journal: Journal,
        runner: Runner,
        transfers: Transfers,
        hints: Hints,
        stop: threading.Event,
        instruments: Instruments,
        access: AccessKeeper | None = None,
        updates: Updates | None = None,
        resets: Resets | None = None,
    ) -> None:
        self._link = link
        self._resets = resets
        self._updates = updates
        self._instruments = instruments
        self._access = access
        self._journal = journal
        self._runner = runner
        self._transfers = transfers
        self._hints = hints
        self._stopping = stop
        self._told = -1

    def run(self) -> None:
        """Tick until stopped. Attempts go on without the agent, for as long as their lease lasts."""
        self._transfers.begin()
        threading.Thread(target=self._poll, name="long poll", daemon=True).start()
        while not self._stopping.is_set():
            self.tick()
            self._hints.wait(self._pause())
        self._transfers.close()

    def tick(self) -> None:
        """Look, say what changed, do what is desired, look again."""
        self._link.observe(self._reports())
        if self._link.news_in() == 0.0:
            self._link.exchange(wait_s=0.0)
        if self._link.desired is not None:
            self._apply(self._link.desired)

    def _reports(self) -> list[AttemptReport]:
        attempts = self._runner.observe()
        self._transfers.show(attempts)
        self._instruments.show(attempts)
        return [
            report(attempt, self._shipped(attempt), self._instruments.energy(attempt)) for attempt in attempts
        ]

    def _shipped(self, attempt: Attempt) -> Shipped | None:
        """One that nobody wants any more is not held up by what it made."""
        shipped = self._transfers.shipped(attempt.key)
        if not self._instruments.settled(attempt):
            shipped = None
        desired = self._link.desired
        if shipped is None and desired is not None:
            wanted = {(spec.attempt_id, spec.fence) for spec in desired.attempts}
            return None if (attempt.key.attempt_id, attempt.key.fence) in wanted else Shipped()
        return shipped

    def _apply(self, desired: Desired) -> None:
        if desired.generation > self._told:
            self._journal.told(desired)
            self._told = desired.generation
            if self._access is not None:
                self._access.want(desired.generation, desired.access)
        attempts = {attempt.local().key: attempt for attempt in self._runner.observe()}
        steps = plan(desired, [attempt.local() for attempt in attempts.values()])
        for item in steps.stop:
            self._runner.stop(attempts[item.key])
        for item in steps.forget:
            self._runner.forget(attempts[item.key])
        for spec in steps.start:
            self._runner.start(spec)
        if self._updates is not None:
            self._updates.want(desired.update, idle=not self._runner.observe())
        if self._resets is not None:
            self._resets.want(desired.resets)
        self._link.applied(desired.generation, self._reports())

    def _pause(self) -> float:
        """Until the next tick is due if nothing hints before."""
        news = self._link.news_in()
        attempts = self._runner.observe()
        living = any(attempt.phase != "exited" for attempt in attempts)
        return min(_LOOK_S if living else _IDLE_LOOK_S, _IDLE_LOOK_S if news is None else news)

    def _poll(self) -> None:
        """The parked exchange, for ever. The first one is the tick's; this thread waits until it is applied."""
        while not self._stopping.wait(self._link.retry_in()):
            if not self._link.wait_applied(timeout_s=0.5) or self._link.desired is None:
                continue
            began, before, wait_s = clock(), self._link.desired.generation, self._link.poll_s()
            self._link.exchange(wait_s)
            self._hints.hint()
            if self._link.desired.generation == before and clock() - began < wait_s / 2:
                # Answered early without news: a server that goes down wakes its polls, and must not be hammered.
                self._stopping.wait(0.2 * random.uniform(0.5, 1.0))
