"""Two slots for the agent's version: the one that runs and the other. A new version has a minute to report, or it goes.

/opt/tinyfleet/slots/a, /opt/tinyfleet/slots/b   a Python environment each; VERSION in it is written last
/opt/tinyfleet/current                           a link to the one that runs
/var/lib/tinyfleet-root/slots.json               the trial that goes on, and the last that failed
/etc/tinyfleet/release-signers                   whose releases are installed here
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.agents.durable import read_json, write_json
from fleet.agents.root_release import fetched, installer, wheel_list, wheels
from fleet.agents.root_verbs import Fields, Refusal, Root, Verb, order, version

HOME, STATE = "/opt/tinyfleet", "/var/lib/tinyfleet-root"
SIGNERS = "/etc/tinyfleet/release-signers"
UPDATES = "/var/lib/tinyfleet/updates"  # where the agent puts what it fetched
SLOTS = ("a", "b")
_INSTALL_S = 300.0
_RESTART_S = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """A version that runs and has not reported yet; `back_to` is the slot to return to."""

    version: str
    back_to: str


class Slots:
    """The slots of a machine, as they stand on its disk."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._home = root.at(HOME)
        self._record = root.at(STATE) / "slots.json"

    def folder(self, slot: str) -> Path:
        """Where a slot's environment lies."""
        return self._home / "slots" / slot

    @property
    def active(self) -> str | None:
        """The slot that runs; None before the first."""
        try:
            name = os.readlink(self._home / "current").rpartition("/")[2]
        except OSError:
            return None
        return name if name in SLOTS else None

    @property
    def other(self) -> str:
        """The slot that does not run."""
        return "b" if self.active == "a" else "a"

    def version(self, slot: str | None) -> str | None:
        """What is whole in a slot; None when nothing is."""
        try:
            return None if slot is None else (self.folder(slot) / "VERSION").read_text().strip() or None
        except OSError:
            return None

    @property
    def trial(self) -> Trial | None:
        """The trial that goes on."""
        found = (read_json(self._record) or {}).get("trial")
        return None if found is None else Trial(**found)

    @property
    def failed(self) -> Mapping[str, Any] | None:
        """The version that went last, why, and when (epoch seconds)."""
        found: Mapping[str, Any] | None = (read_json(self._record) or {}).get("failed")
        return found

    def note(self, trial: Trial | None, failed: Mapping[str, Any] | None) -> None:
        """Write both down."""
        self._record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        entry = None if trial is None else {"version": trial.version, "back_to": trial.back_to}
        write_json(self._record, {"trial": entry, "failed": failed})

    def switch(self, slot: str) -> None:
        """Make a slot the one that runs from its next start on, in one step."""
        aside = self._home / ".current"
        aside.unlink(missing_ok=True)
        aside.symlink_to(f"slots/{slot}")
        os.replace(aside, self._home / "current")


@contextmanager
def _alone(root: Root) -> Iterator[None]:
    """The installer, run by hand, and root's part must not change the slots at the same time."""
    folder = root.at(STATE)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# -------------------------------------------------------------------------------------------- stage


def stage(root: Root, source: Path, wanted: str | None = None) -> str:
    """Install the release in `source` into the slot that does not run; returns its version. Refusal.

    `wanted`: the version that it has to be. One that is older than the one that runs is refused: it would bring back
    holes that were closed.
    """
    slots = Slots(root)
    root.at(HOME).mkdir(mode=0o755, parents=True, exist_ok=True)
    with _alone(root), tempfile.TemporaryDirectory(prefix=".staging-", dir=root.at(HOME)) as name:
        found = fetched(source, Path(name), root.at(SIGNERS))
        if wanted is not None and found != wanted:
            raise Refusal(f"the release is {found}, not {wanted}")
        running = slots.version(slots.active)
        if running is not None and order(found) < order(running):
            raise Refusal(f"{found} is older than {running}, which runs: a downgrade is refused")
        if slots.trial is not None:
            raise Refusal(f"{slots.trial.version} is on trial: wait until it has reported, or gone")
        if found not in (running, slots.version(slots.other)):
            _install(slots.folder(slots.other), Path(name), found)
    return found


def _install(slot: Path, release: Path, found: str) -> None:
    """An environment with exactly what the release lists. Its VERSION says that it is whole."""
    shutil.rmtree(slot, ignore_errors=True)
    slot.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    before = os.umask(0o022)  # the agent has to read it
    try:
        _run([sys.executable, "-I", "-m", "venv", "--without-pip", str(slot)], release)
        pip = f"{installer(wheels(release))}/pip"
        options = [
            "--no-index",
            "--no-deps",
            "--require-hashes",
            "--no-cache-dir",
            "--disable-pip-version-check",
        ]
        command = [str(slot / "bin" / "python"), "-I", pip, "install", "--quiet", *options]
        _run([*command, "--requirement", wheel_list()], release)
        (slot / "VERSION.new").write_text(found + "\n")
        os.replace(slot / "VERSION.new", slot / "VERSION")
    finally:
        os.umask(before)


def _run(command: list[str], folder: Path) -> None:
    environ = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(folder)}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=_INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Refusal(f"installing took longer than {_INSTALL_S:.0f} s") from error
    if done.returncode != 0:
        raise Refusal(f"{' '.join(command[:5])} … failed: {(done.stderr or done.stdout).strip()[-600:]}")


# ----------------------------------------------------------------------------------------- activate


def activate(root: Root, wanted: str, *, restart: bool = True) -> Mapping[str, Any]:
    """Run the version that is in the other slot, on trial, unless it runs already. Refusal."""
    with _alone(root):
        if Slots(root).version(Slots(root).active) != wanted:
            _switch(Slots(root), wanted)
            if restart:
                restart_agent(root)
    return status(root)


def _switch(slots: Slots, wanted: str) -> None:
    if slots.version(slots.other) != wanted:
        raise Refusal(f"{wanted} is in no slot: stage it first")
    if slots.trial is not None:
        raise Refusal(f"{slots.trial.version} is on trial: wait until it has reported, or gone")
    before, after = slots.active, slots.other
    # Written down first: whatever ends this process now, the trial has an end.
    slots.note(None if before is None else Trial(wanted, before), slots.failed)
    slots.switch(after)


def confirm(root: Root, reported: str) -> Mapping[str, Any]:
    """The version that is on trial has reported: it stays. Refusal when another one is on trial."""
    with _alone(root):
        trial = Slots(root).trial
        if trial is not None and trial.version != reported:
            raise Refusal(f"{trial.version} is on trial, not {reported}")
        if trial is not None:
            Slots(root).note(None, None)
            _log.info("%s has reported and stays", reported)
    return status(root)


def roll_back(root: Root, trial: Trial, why: str) -> None:
    """Return to the slot that ran before."""
    slots = Slots(root)
    with _alone(root):
        if slots.trial != trial:
            return  # it reported in the last moment
        _log.warning("%s goes: %s; back to %s", trial.version, why, slots.version(trial.back_to))
        slots.switch(trial.back_to)
        slots.note(None, {"version": trial.version, "why": why, "at": time.time()})
        restart_agent(root)


class Watch:
    """Ends trials that last too long. A restart of root's part, or of the machine, gives a trial its time anew."""

    def __init__(self) -> None:
        self._trial: Trial | None = None
        self._until = 0.0

    def __call__(self, root: Root) -> float | None:
        """Seconds until it wants to look again; None while there is no trial."""
        trial = Slots(root).trial
        if trial is None:
            self._trial = None
            return None
        if trial != self._trial:
            self._trial, self._until = trial, time.monotonic() + root.trial_s
        left = self._until - time.monotonic()
        if left > 0:
            return left
        self._trial = None
        roll_back(root, trial, f"it did not report within {root.trial_s:g} s")
        return None


def restart_agent(root: Root) -> None:
    """Restart the agent; what goes wrong is logged, for the trial's end puts it right."""
    try:
        done = subprocess.run(root.restart, capture_output=True, text=True, timeout=_RESTART_S, check=False)
        if done.returncode != 0:
            _log.error("%s: %s", " ".join(root.restart), done.stderr.strip()[-300:])
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.error("%s: %s", " ".join(root.restart), error)


def status(root: Root) -> Mapping[str, Any]:
    """What is in the slots: `running`, `other` (a version or None), `trial` (a version or None), `failed`."""
    slots = Slots(root)
    trial = slots.trial
    return {
        "running": slots.version(slots.active),
        "slot": slots.active,
        "other": slots.version(slots.other),
        "trial": None if trial is None else trial.version,
        "failed": slots.failed,
    }


# -------------------------------------------------------------------------------------------- verbs


def _stage(root: Root, fields: Fields) -> Mapping[str, Any]:
    wanted = fields["version"]
    stage(root, root.at(UPDATES) / wanted, wanted)
    return status(root)


def _activate(root: Root, fields: Fields) -> Mapping[str, Any]:
    return activate(root, fields["version"])


def _confirm(root: Root, fields: Fields) -> Mapping[str, Any]:
    return confirm(root, fields["version"])


def _status(root: Root, _: Fields) -> Mapping[str, Any]:
    return status(root)


def _restart(root: Root, _: Fields) -> Mapping[str, Any]:
    restart_agent(root)
    return {}


VERBS: Mapping[str, Verb] = {
    "slots": Verb(_status, "look"),
    "stage": Verb(_stage, "slots", {"version": version}),
    "activate": Verb(_activate, "slots", {"version": version}),
    "confirm": Verb(_confirm, "slots", {"version": version}),
    "restart": Verb(_restart, "slots"),
}
