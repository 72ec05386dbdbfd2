"""This node's change of version: fetch the release, have root's part put it in the other slot, and run it when idle.

Nothing here is believed by root's part: it copies the files, and checks their signature itself. What this node has to say
about a version that failed is said until the control plane wants another one; update-told.json remembers that.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from fleet.agents import rooted
from fleet.agents.client import ControlPlane, ControlPlaneError
from fleet.agents.durable import read_json, write_json
from fleet.agents.root_release import SIGNATURE, SUMS, parsed_sums, wheel_list, wheels
from fleet.agents.root_verbs import Refusal
from fleet.agents.rooted import NoRoot
from fleet.agents.update_spec import UpdateReport, UpdateSpec

_STAGE_S = 400.0  # installing a release, on a machine that is busy
_AGAIN_S = 5.0
_TOLD = "update-told.json"
_log = logging.getLogger(__name__)


class Ask(Protocol):
    """What asks root's part: `rooted.ask`."""

    def __call__(self, verb: str, *, within_s: float = ..., **fields: Any) -> Mapping[str, Any]: ...


def updatable(ask: Ask = rooted.ask) -> bool:
    """Whether root's part keeps slots here: whether this node's version can be changed from afar."""
    try:
        return ask("slots", within_s=5.0)["running"] is not None
    except (NoRoot, Refusal, KeyError):
        return False


class Updates:
    """What is wanted, how far it is, and a thread that does it. `version` is what runs; `hint` says that there is news."""

    def __init__(
        self,
        control: ControlPlane,
        state: Path,
        version: str,
        hint: Callable[[], None],
        ask: Ask = rooted.ask,
    ) -> None:
        self._control = control
        self._state = state
        self._version = version
        self._hint = hint
        self._ask = ask
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._wanted: str | None = None
        self._idle = False
        self._heard = False
        self._failed_at: float | None = (
            None  # root's word on when; None for what failed before it came to that
        )
        self._report = self._earlier_failure()
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; what is under way ends with the process."""
        self._stopped = True
        self._wake.set()

    def report(self) -> UpdateReport | None:
        """What there is to say; None when there is nothing."""
        with self._guard:
            return self._report

    def want(self, spec: UpdateSpec | None, idle: bool) -> None:
        """The control plane wants this; `idle`: no attempt is on this node."""
        with self._guard:
            wanted = None if spec is None else spec.version
            changed = (wanted, idle) != (self._wanted, self._idle)
            self._wanted, self._idle = wanted, idle
        if changed:
            self._wake.set()

    def heard(self, said: UpdateReport | None, spec: UpdateSpec | None) -> None:
        """An exchange succeeded that said this, and was answered that. The first one confirms the version that runs."""
        with self._guard:
            first, self._heard = not self._heard, True
            known = said is not None and said == self._report and said.state == "failed"
            over = known and (spec is None or said is None or spec.version != said.version)
            if over:
                self._report = None
                self._wanted = (
                    None if spec is None else spec.version
                )  # else what failed would be tried once more
        if over and self._failed_at is not None:
            write_json(self._state / _TOLD, {"at": self._failed_at})
        if first:
            self._wake.set()

    # ------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        confirmed = False
        pause: float | None = None
        while not self._stopped:
            self._wake.wait(pause)
            self._wake.clear()
            if self._heard and not confirmed:
                confirmed = self._confirm()
            pause = None if self._step() and (confirmed or not self._heard) else _AGAIN_S

    def _confirm(self) -> bool:
        """This version has reported: root's part need not bring the one before back."""
        try:
            self._ask("confirm", version=self._version, within_s=30.0)
        except Refusal as error:
            _log.warning("version %s is not confirmed: %s", self._version, error)
        except NoRoot:
            return not updatable(self._ask)
        return True

    def _step(self) -> bool:
        """Go on as far as it goes now; False to be called again after a while."""
        with self._guard:
            wanted, idle, report = self._wanted, self._idle, self._report
        if report is not None and report.state == "failed":
            return True  # first it has to be heard
        if wanted is None or wanted == self._version:
            self._say(None)
            return True
        try:
            return self._change(wanted, idle)
        except Refusal as error:
            self._say(UpdateReport(version=wanted, state="failed", error=str(error)[-2000:]))
            return True
        except (NoRoot, ControlPlaneError, OSError) as error:
            _log.warning("update to %s: %s", wanted, error)
            return False

    def _change(self, wanted: str, idle: bool) -> bool:
        slots = self._ask("slots", within_s=30.0)
        if slots["trial"] is not None:
            return False
        if slots["other"] != wanted:
            self._say(UpdateReport(version=wanted, state="fetching"))
            self._fetch(wanted)
            self._ask("stage", version=wanted, within_s=_STAGE_S)
            shutil.rmtree(self._state / "updates", ignore_errors=True)
        self._say(UpdateReport(version=wanted, state="staged"))
        with self._guard:
            ready = idle and self._idle and self._wanted == wanted
        if ready:
            _log.info("changing from %s to %s", self._version, wanted)
            self._ask("activate", version=wanted, within_s=60.0)
        return ready or not idle

    def _fetch(self, wanted: str) -> None:
        """The release's files for this machine, each checked against the sums; those that are there already stay."""
        folder = self._state / "updates" / wanted
        for other in (self._state / "updates").glob("*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (SUMS, SIGNATURE):
            self._control.release_file(wanted, name, folder / name)
        sums = parsed_sums((folder / SUMS).read_text(encoding="ascii", errors="replace"))
        if wheel_list() not in sums:
            raise Refusal(f"release {wanted} is not for {wheel_list().removesuffix('.txt')}")
        for name in ("VERSION", wheel_list()):
            self._fetch_one(wanted, folder / name, sums)
        for name in wheels(folder):
            self._fetch_one(wanted, folder / name, sums)

    def _fetch_one(self, wanted: str, path: Path, sums: Mapping[str, str]) -> None:
        expected = sums.get(path.name)
        if path.exists() and _sha256(path) == expected:
            return
        self._control.release_file(wanted, path.name, path)
        if _sha256(path) != expected:
            raise Refusal(f"{path.name} of release {wanted} is not what its sums say")

    def _say(self, report: UpdateReport | None) -> None:
        with self._guard:
            if report == self._report:
                return
            self._report = report
        self._hint()

    def _earlier_failure(self) -> UpdateReport | None:
        """What root's part brought back, unless the control plane has been told."""
        try:
            failed = self._ask("slots", within_s=5.0)["failed"]
        except (NoRoot, Refusal, KeyError):
            return None
        told = read_json(self._state / _TOLD) or {}
        if failed is None or failed["at"] == told.get("at"):
            return None
        self._failed_at = float(failed["at"])
        return UpdateReport(version=failed["version"], state="failed", error=failed["why"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
