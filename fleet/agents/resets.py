"""Resets of GPUs that the control plane asks for: one after the other, in a thread, by root's part of the node.

What is measured of the GPUs is set aside meanwhile: who measures holds them open, and a GPU that is open is not reset.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from fleet.agents import rooted
from fleet.agents.protocol import ResetReport, ResetSpec
from fleet.agents.root_gpus import VERBS
from fleet.agents.root_verbs import Refusal, Root
from fleet.agents.rooted import NoRoot
from fleet.agents.starter import task_environment

_RESET_S = 120.0
_LOOK_S = 60.0
_log = logging.getLogger(__name__)
Resetter = Callable[[str], None]  # a GPU by its name; Refusal says why it was not done


class Resets:
    """What is to be reset, and how it went. `aside`: entered while a GPU is reset; `hint` says that there is news."""

    def __init__(
        self,
        hint: Callable[[], None],
        aside: Callable[[], AbstractContextManager[object]],
        reset: Resetter | None = None,
    ) -> None:
        self._hint = hint
        self._aside = aside
        self._reset = reset or reset_here
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._wanted: list[ResetSpec] = []
        self._said: dict[tuple[str, int], ResetReport] = {}
        self._thread = threading.Thread(target=self._run, name="resets", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; a reset that is under way ends with the process."""
        self._stopped = True
        self._wake.set()

    def want(self, specs: Sequence[ResetSpec]) -> None:
        """These are wanted; what is said of others is forgotten."""
        with self._guard:
            self._wanted = list(specs)
            keys = {_key(spec) for spec in specs}
            self._said = {key: said for key, said in self._said.items() if key in keys}
            due = keys - self._said.keys()
        if due:
            self._wake.set()

    def reports(self) -> list[ResetReport]:
        """How those that are wanted went, as far as they have been tried."""
        with self._guard:
            return list(self._said.values())

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait()
            self._wake.clear()
            while not self._stopped and (spec := self._next()) is not None:
                said = self._try(spec)
                with self._guard:
                    self._said[_key(spec)] = said
                self._hint()

    def _next(self) -> ResetSpec | None:
        with self._guard:
            return next((spec for spec in self._wanted if _key(spec) not in self._said), None)

    def _try(self, spec: ResetSpec) -> ResetReport:
        try:
            with self._aside():
                self._reset(spec.gpu)
        except Refusal as error:
            _log.warning("%s was not reset: %s", spec.gpu, error)
            return ResetReport(gpu=spec.gpu, generation=spec.generation, done=False, detail=str(error)[:2000])
        except Exception as error:  # noqa: BLE001 - the top of a thread: whatever happened is its report
            _log.exception("%s was not reset", spec.gpu)
            detail = f"{type(error).__name__}: {error}"[:2000]
            return ResetReport(gpu=spec.gpu, generation=spec.generation, done=False, detail=detail)
        _log.info("%s was reset", spec.gpu)
        return ResetReport(gpu=spec.gpu, generation=spec.generation, done=True)


def _key(spec: ResetSpec) -> tuple[str, int]:
    return spec.gpu, spec.generation


def reset_here(name: str) -> None:
    """Reset a GPU of this machine by root's part, or as root. Refusal with what to do by hand."""
    where = addresses().get(name)
    if where is None:
        raise Refusal("it is not on the bus any more: reboot the node")
    fields: dict[str, Any] = {"pci_address": where["pci_address"], "vendor": where["vendor"]}
    try:
        rooted.ask("gpu.reset", within_s=_RESET_S, **fields)
    except NoRoot as error:
        if os.geteuid() != 0:
            raise Refusal(f"root's part of the node is not there ({error}): {by_hand(fields)}") from error
        VERBS["gpu.reset"].do(Root(Path("/")), "gpu.reset", fields)


def by_hand(fields: dict[str, Any]) -> str:
    """What an operator can do instead."""
    if fields["vendor"] == "nvidia":
        return f"as root, nvidia-smi --gpu-reset -i {fields['pci_address']}, or reboot the node"
    return "reboot the node"


def addresses() -> dict[str, dict[str, str]]:
    """Where each GPU is, by its name: {"vendor", "pci_address"}. Asked in a child, as a driver may hang."""
    command = (sys.executable, "-m", "fleet.agents.gpu_devices", "--addresses")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LOOK_S, env=task_environment(), check=True
        )
        found: dict[str, dict[str, str]] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()[-300:]
        raise Refusal(f"the GPUs of this node cannot be listed: {said}") from error
    return found
