"""What goes over the wire beside sync: logs as they grow, artifacts at the end, inputs before the start.

It has a thread of its own, so that a slow upload delays neither a heartbeat nor a cancellation.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.agents.attempts import KEPT, LOG, Key
from fleet.agents.client import ControlPlane, ControlPlaneError, Rejected, backoff
from fleet.agents.durable import write_bytes
from fleet.agents.logs import read_piece
from fleet.agents.protocol import Outcome, blob_address
from fleet.agents.runner import Attempt, Runner, Shipped, missing_inputs
from fleet.agents.staging import Stager
from fleet.agents.walls import calls

_CHUNK = 256 * 1024
_RUNS = 512  # of a stream each, in one request
_FOLLOW_S = 0.5  # how often the logs of running attempts are looked at
_log = logging.getLogger(__name__)


@dataclass
class _Shipment:
    log_offset: int = 0
    log_refused: bool = False
    artifacts: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    complete: bool = False


class Transfers:
    """Moves bytes for the attempts it was last shown. Safe to repeat: the server says what it has."""

    def __init__(
        self,
        control: ControlPlane,
        runner: Runner,
        cache: Path,
        cache_bytes: int,
        changed: Callable[[], None],
        stager: Stager | None = None,
    ) -> None:
        self._stager = stager
        self._control = control
        self._runner = runner
        self._cache = cache
        self._cache_bytes = cache_bytes
        self._changed = changed
        self._attempts: Sequence[Attempt] = ()
        self._shipments: dict[Key, _Shipment] = {}
        self._look = threading.Event()
        self._closing = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="transfers", daemon=True)

    def begin(self) -> None:
        """Start moving."""
        if self._stager is not None:
            self._stager.begin()
        self._thread.start()

    def show(self, attempts: Sequence[Attempt]) -> None:
        """These are the attempts now; look at them if any has something to move."""
        self._attempts = attempts
        if self._stager is not None:
            self._stager.show(attempts)
        if any(self._pending(attempt) for attempt in attempts):
            self._look.set()

    def _pending(self, attempt: Attempt) -> bool:
        if attempt.phase == "new":
            lacks = self._runner.lacks_secrets(attempt.key, attempt.spec)
            return lacks or bool(missing_inputs(attempt.directory, attempt.spec))
        if attempt.phase == "running":
            return attempt.key not in self._shipments  # from now on its log is followed
        return attempt.phase == "exited" and self.shipped(attempt.key) is None

    def shipped(self, key: Key) -> Shipped | None:
        """What the server has of an exited attempt, once that is all it will have; None before."""
        shipment = self._shipments.get(key)
        if shipment is None or not shipment.complete:
            return None
        return Shipped(
            dict(shipment.artifacts), "; ".join(f"{name}: {why}" for name, why in shipment.refused.items())
        )

    def close(self) -> None:
        """Stop after the transfer in hand, which is given a moment."""
        self._closing.set()
        if self._stager is not None:
            self._stager.close()
        self._look.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._look.clear()
            try:
                self._pass(self._attempts)
                self._failures = 0
            except (ControlPlaneError, OSError) as error:
                self._failures += 1
                _log.warning("transfer: %s", error)
            if self._failures:  # a hint does not shorten it: a server in trouble is not asked more often
                self._closing.wait(backoff(self._failures, random.random()))
            else:
                self._look.wait(_FOLLOW_S if self._following() else None)

    def _following(self) -> bool:
        return any(attempt.phase == "running" for attempt in self._attempts)

    def _pass(self, attempts: Sequence[Attempt]) -> None:
        here = {attempt.key for attempt in attempts}
        self._shipments = {key: shipment for key, shipment in self._shipments.items() if key in here}
        for attempt in attempts:
            if attempt.phase == "new":
                self._fetch(attempt)
            elif self.shipped(attempt.key) is None:
                self._ship(attempt, self._shipments.setdefault(attempt.key, _Shipment()))

    def _fetch(self, attempt: Attempt) -> None:
        if self._runner.lacks_secrets(attempt.key, attempt.spec) and not self._fetch_secrets(attempt):
            return
        for address in missing_inputs(attempt.directory, attempt.spec):
            try:
                content = self._blob(address)
            except Rejected as error:
                self._runner.give_up(attempt.directory, Outcome.INFRA_FAILED, f"input blob: {error}")
                self._changed()
                return
            write_bytes(attempt.directory / "work" / "blobs" / address, content)
            self._changed()

    def _fetch_secrets(self, attempt: Attempt) -> bool:
        try:
            secrets = self._control.secrets(attempt.key.attempt_id, attempt.key.fence)
        except Rejected as error:
            self._runner.give_up(attempt.directory, Outcome.FAILED, f"secrets: {error}")
            self._changed()
            return False
        self._runner.entrust(attempt.key, secrets)
        self._changed()
        return True

    def _blob(self, address: str) -> bytes:
        """From the node's cache, or fetched when it is not there or damaged."""
        path = self._cache / address
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        if blob_address(content) != address:
            content = self._control.get_blob(address)
            self._cache.mkdir(mode=0o700, exist_ok=True)
            write_bytes(path, content)
            evict(self._cache, self._cache_bytes)
        else:
            os.utime(path)  # used just now: the last to be evicted
        return content

    def _ship(self, attempt: Attempt, shipment: _Shipment) -> None:
        exited = attempt.phase == "exited"
        self._ship_log(attempt, shipment)
        if not exited or attempt.state is None:
            return
        for name in attempt.state.artifacts:
            if name not in shipment.artifacts and name not in shipment.refused:
                self._ship_artifact(attempt, name, shipment)
        shipment.complete = True
        calls.give_back_memory()  # the agent is to stay small, and some of what it ships is not
        self._changed()

    def _ship_artifact(self, attempt: Attempt, name: str, shipment: _Shipment) -> None:
        content = (attempt.directory / KEPT / name).read_bytes()
        try:
            shipment.artifacts[name] = self._control.put_blob(content)
        except Rejected as error:  # too large for this server, for instance: asking again changes nothing
            shipment.refused[name] = str(error)
            _log.warning("attempt %s: artifact %s: %s", attempt.key, name, error)

    def _ship_log(self, attempt: Attempt, shipment: _Shipment) -> None:
        """Send what the log has beyond what the server has, in order; the server's word on that counts."""
        while not shipment.log_refused:
            piece = read_piece(attempt.directory / LOG, shipment.log_offset, _CHUNK, _RUNS)
            if not piece.content:
                return
            try:
                has = self._control.upload_log(
                    attempt.key.attempt_id, attempt.key.fence, shipment.log_offset, piece
                )
            except Rejected as error:  # an older fence: the attempt is another's now
                _log.warning("attempt %s: log: %s", attempt.key, error)
                has = shipment.log_offset
            # No further than before: the server takes no more of it.
            shipment.log_refused = has == shipment.log_offset
            shipment.log_offset = has


def evict(cache: Path, limit: int) -> None:
    """Remove the blobs not used for longest until the cache is within `limit` bytes."""
    files = sorted(((path.stat(), path) for path in cache.iterdir()), key=lambda item: item[0].st_mtime_ns)
    excess = sum(about.st_size for about, _ in files) - limit
    for about, path in files:
        if excess <= 0:
            break
        path.unlink()
        excess -= about.st_size
