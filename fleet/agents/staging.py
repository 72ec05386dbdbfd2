"""Stages the data sets and the images that attempts wait for, one at a time, in a thread of its own: they are large, and nothing else waits."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from fleet.agents.attempts import PROGRESS
from fleet.agents.client import ControlPlane, ControlPlaneError, Rejected, backoff
from fleet.agents.containers import IMAGE, Box, Engine
from fleet.agents.datasets import DataSets, Unstageable
from fleet.agents.durable import write_json
from fleet.agents.images import Images, NoImage
from fleet.agents.processes import clock
from fleet.agents.protocol import CachedData, Outcome
from fleet.agents.runner import Attempt, Runner, data_of, has_image, image_of
from fleet.agents.walls import calls

_SAY_EVERY_S = 1.0
_log = logging.getLogger(__name__)


class Stager:
    """Has the data sets of the attempts that it was last shown."""

    def __init__(
        self,
        control: ControlPlane,
        runner: Runner,
        sets: DataSets,
        changed: Callable[[], None],
        images: Images | None = None,
    ) -> None:
        self._images = images
        self._control = control
        self._runner = runner
        self._sets = sets
        self._changed = changed
        self._attempts: Sequence[Attempt] = ()
        self._kept = sets.kept()
        self._look = threading.Event()
        self._closing = threading.Event()
        self._said_at = 0.0
        self._thread = threading.Thread(target=self._run, name="staging", daemon=True)

    def begin(self) -> None:
        """Start."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what is being staged goes on from where it is the next time."""
        self._closing.set()
        self._look.set()

    def show(self, attempts: Sequence[Attempt]) -> None:
        """These are the attempts now."""
        self._attempts = attempts
        if any(self._lacking(attempt) or _lacks_image(attempt) for attempt in attempts):
            self._look.set()

    def kept(self) -> list[CachedData]:
        """What is here, as of the last change."""
        return self._kept

    def _lacking(self, attempt: Attempt) -> list[str]:
        if attempt.phase != "new":
            return []
        return [address for address in data_of(attempt.spec) if not self._sets.has(address)]

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            self._look.wait()
            self._look.clear()
            try:
                for attempt in self._attempts:
                    if attempt.directory.exists():
                        self._stage(attempt)
                        self._stage_image(attempt)
                failures = 0
            except (ControlPlaneError, InterruptedError) as error:
                failures += 1
                _log.warning("staging: %s", error)
                self._closing.wait(backoff(failures, random.random()))
                self._look.set()
            except Exception:  # noqa: BLE001 - the top of a loop: what goes wrong with one ends no other's staging
                _log.exception("staging")

    def _stage(self, attempt: Attempt) -> None:
        for address in self._lacking(attempt):
            try:
                self._stage_one(attempt, address)
            except Rejected as error:
                self._give_up(attempt, Outcome.FAILED, f"data set {address}: {error}")
            except Unstageable as error:
                outcome = Outcome.INVALID if error.theirs else Outcome.INFRA_FAILED
                self._give_up(attempt, outcome, f"data set {address}: {error}")
            except OSError as error:
                self._give_up(attempt, Outcome.INFRA_FAILED, f"data set {address}: {error}")

    def _stage_image(self, attempt: Attempt) -> None:
        """Elsewhere another try may find it: what fails here is the node's."""
        name = image_of(attempt.spec)
        if name is None or not _lacks_image(attempt):
            return
        self._tell(attempt, {"phase": "staging", "image": name})
        try:
            engine = Engine.load(self._runner.state)
            if self._images is None or engine is None:
                raise NoImage("containers do not run on this node any more")
            links = (other.directory / IMAGE for other in self._attempts)
            found = self._images.fetch(name, {link.resolve() for link in links if link.is_symlink()})
            Box(attempt.directory, engine).prepare(found)
        except (NoImage, OSError) as error:
            self._give_up(attempt, Outcome.INFRA_FAILED, str(error))
            return
        self._changed()

    def _stage_one(self, attempt: Attempt, address: str) -> None:
        began = clock()
        wanted = {each for other in self._attempts if other.phase != "exited" for each in data_of(other.spec)}

        def fetch(part: str) -> bytes:
            if self._closing.is_set() or not any(other.key == attempt.key for other in self._attempts):
                raise ControlPlaneError(f"data set {address} is not wanted any more")
            return self._control.get_blob(part)

        def said(done: int, whole: int) -> None:
            self._say(attempt, address, done, whole)

        self._sets.stage(address, fetch, wanted, said, time.time())
        calls.give_back_memory()
        self._kept = self._sets.kept()
        _log.info("data set %s is here after %.1f s", address[:16], clock() - began)
        self._changed()

    def _say(self, attempt: Attempt, address: str, done: int, whole: int) -> None:
        """How far it is, for whoever waits; that there is news keeps the control plane patient."""
        if clock() - self._said_at < _SAY_EVERY_S:
            return
        self._said_at = clock()
        self._tell(attempt, {"phase": "staging", "data_set": address, "bytes": done, "of": whole})

    def _tell(self, attempt: Attempt, progress: dict[str, Any]) -> None:
        write_json(attempt.directory / PROGRESS, progress, durable=False)
        self._changed()

    def _give_up(self, attempt: Attempt, outcome: Outcome, error: str) -> None:
        self._runner.give_up(attempt.directory, outcome, error)
        self._kept = self._sets.kept()
        self._changed()


def _lacks_image(attempt: Attempt) -> bool:
    return attempt.phase == "new" and not has_image(attempt.directory, attempt.spec)
