"""NVML's events: an XID is told the moment it happens. The wait is in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from fleet.agents.probes.nvml import Session
from fleet.agents.samples import Sample
from fleet.agents.xids import Xids

_XID = 0x8
_TIMEOUT = 10
_WAIT_MS = 5000


class NvmlEvents:
    """One part, for all GPUs: each read waits for an event, some seconds at most."""

    name, interval_s, timeout_s, disturbs = "nvml_events", 0.05, 30.0, False

    def __init__(self, session: Session, xids: Xids, wall: Callable[[], float] = time.time) -> None:
        self._session = session
        self._xids = xids
        self._wall = wall
        self._set: Any = None

    def parts(self) -> Sequence[str]:
        """The events. Raises Unavailable."""
        return ("events",) if self._session.look() else ()

    def read(self, part: str) -> list[Sample]:
        """Wait, and count what came. The samples are those of `xids`."""
        if self._set is None:
            self._set = self._registered()
        library = self._session.library
        try:
            event = library.nvmlEventSetWait_v2(self._set, _WAIT_MS)
        except library.NVMLError as error:
            if getattr(error, "value", 0) == _TIMEOUT:
                return []
            self._set = None
            raise OSError(f"nvmlEventSetWait_v2: {error}") from error
        if event.eventType & _XID:
            self._xids.saw("nvml", self._address(event.device), int(event.eventData), self._wall())
        return []

    def _registered(self) -> Any:
        events = self._session.library.nvmlEventSetCreate()
        for device in self._session.devices.values():
            self._session.ask("nvmlDeviceRegisterEvents", device.handle, _XID, events)
        return events

    def _address(self, handle: Any) -> str:
        uuid = self._session.ask("nvmlDeviceGetUUID", handle)
        found = [each.pci_address for each in self._session.devices.values() if each.uuid == uuid]
        return found[0] if found else "unknown"
