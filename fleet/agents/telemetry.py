"""The agent's telemetry: a small process of its own that samples, and says an exposition for the agent to push.

A vendor's library that crashes, or a read that hangs, ends no attempt and delays no sync; and the agent stays small. It is
told on its standard input, a JSON document a line, all that is so (`Told`); it says on its standard output
`{"metrics": text, "devices": […]}` at every collection (those whose energy is known), `{"marks": {key: […]}}` for attempts that began and `{"energy": {key: {…}}}` for those that ended. It ends with its input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from fleet.agents.collecting import Collector
from fleet.agents.energy import Mark, Meter, Window, spent
from fleet.agents.exporter import render
from fleet.agents.probes import gpus
from fleet.agents.probes.rapl import Rapl
from fleet.agents.processes import clock
from fleet.agents.samples import Readings, Sample, joined, labels
from fleet.agents.serving import Served, serve
from fleet.agents.sources import Source, sources
from fleet.agents.telemetry_config import CONFIG, load
from fleet.agents.xids import Xids

_WATCH_S = 1.0
_FIRST_S = 1.0  # until every probe has been read once
_SETTLE_S = 0.5  # how long an attempt's beginning and end wait for a reading of its counter
# A reading of the energy counter takes an H200 3.2 ms: of eight, each second, that were 2.5 % of a core.
_COUNTER_S = 60.0
_COUNTER_SOON_S = 5.0  # until it could be compared with power
_COUNTER_APART_S = 0.25  # two GPUs' readings, so that power is not late
_WINDOWS = (15.0, 60.0)
_OUTAGE_SHOWN_S = 180.0
_HELD = ("fleet_gpu_throttled",)


class Told(NamedTuple):
    """What the agent says: the interval, whether something is timed here, and its attempts.

    An attempt: key, devices, job_id, `started` and, once it is over, `ended`, in seconds of `processes.clock`; `marks` by
    device, when an earlier process has made them.
    """

    every_s: float = 10.0
    paused: bool = False
    offline: bool = False
    offset_s: float | None = None
    attempts: tuple[Mapping[str, Any], ...] = ()

    @staticmethod
    def of(line: bytes) -> Told:
        """A line of the input. The agent is believed."""
        document = json.loads(line)
        document["attempts"] = tuple(document.get("attempts", ()))
        return Told(**document)


class Powered(Protocol):
    """A probe that can be asked for power and energy of its parts."""

    def parts(self) -> Sequence[str]: ...
    def identity(self, part: str) -> tuple[str, str]: ...
    def watts(self, part: str) -> float | None: ...
    def joules(self, part: str) -> float | None: ...


class Power:
    """The ten-a-second reading of one source's power, and its counter once a minute or when `wanted`."""

    interval_s, timeout_s, disturbs = 0.1, 3.0, False

    def __init__(self, source: Powered, meters: dict[str, Meter], name: str, paused: threading.Event) -> None:
        self.name = name
        self.wanted: set[str] = set()
        self._source = source
        self._meters = meters
        self._paused = paused
        self._devices: dict[str, tuple[str, Meter]] = {}
        self._counted: dict[str, float] = {}
        self._last = float("-inf")

    def parts(self) -> Sequence[str]:
        """Those of the source."""
        names = self._source.parts()
        for name in names:
            device = f"gpu{self._source.identity(name)[0]}"
            self._devices[name] = device, self._meters.setdefault(device, Meter())
        return names

    def has(self, device: str) -> bool:
        """Whether one of the parts is this device."""
        return any(name == device for name, _ in list(self._devices.values()))

    def read(self, part: str) -> list[Sample]:
        """Nothing to show: it is in the meters."""
        watts = self._source.watts(part)
        device, meter = self._devices[part]
        at = clock()
        if watts is not None:
            meter.ring.push(at, watts)
        if device in self.wanted or self._due(part, meter, at):
            self._counted[part] = self._last = at
            try:
                joules = self._source.joules(part)
                if joules is not None:
                    meter.push_counter((at + clock()) / 2, joules)
            finally:
                self.wanted.discard(device)
        return []

    def _due(self, part: str, meter: Meter, at: float) -> bool:
        if self._paused.is_set() or meter.believed is False or at - self._last < _COUNTER_APART_S:
            return False
        every_s = _COUNTER_SOON_S if meter.undecided else _COUNTER_S
        return at - self._counted.get(part, float("-inf")) >= every_s


class Telemetry:
    """All probes of a machine, and what is known of them. `start` has them run; `collect` says it all."""

    def __init__(self, found: Iterable[Source], xids: Xids, version: str = "") -> None:
        self.paused = threading.Event()
        self.meters: dict[str, Meter] = {}
        self.told = Told()
        self._xids = xids
        self._version = version
        self._marks: dict[str, dict[str, Mark]] = {}
        self.marked: dict[str, dict[str, Mark]] = {}  # to be told, so that the next process knows them
        self._begun: dict[str, float] = {}  # whose counters are to be read once more, since when
        self._over: dict[str, float] = {}
        self._known: dict[str, str] = {}  # labels of GPUs by PCI address
        self._outages: dict[str, Window] = {}
        self._outage_ended = float("-inf")
        self._pids = {"telemetry": os.getpid(), "agent": os.getppid()}
        self._bus: gpus.Gpus | None = None
        self._rapl: Rapl | None = None
        self.collectors: list[Collector] = []
        self._powers: list[Power] = []
        for source in found:
            self._add(source)

    def _add(self, source: Source) -> None:
        probe, seen = source.probe, None
        if isinstance(probe, gpus.Gpus):
            self._bus = probe
        if isinstance(probe, Rapl):
            self._rapl = Rapl(probe.root)
        if source.powered is not None:
            seen = self._throttles(source.powered)
        self.collectors.append(Collector(source.probe, self.paused, seen))
        if source.powered is not None:
            power = Power(source.powered, self.meters, f"{source.probe.name}_power", self.paused)
            self._powers.append(power)
            self.collectors.append(Collector(power, self.paused))

    def _throttles(self, powered: Powered) -> Callable[[str, list[Sample]], None]:
        """Take from each read whether that GPU's clocks are held down."""

        def seen(part: str, samples: list[Sample]) -> None:
            device = f"gpu{powered.identity(part)[0]}"
            held = any(sample.value for sample in samples if sample.name in _HELD)
            self.meters.setdefault(device, Meter()).throttled(clock(), held)

        return seen

    def _count_processors(self) -> None:
        """Their energy, read here: it is in the processor, and nothing to wait for."""
        if self._rapl is None:
            return
        with contextlib.suppress(OSError):
            if self._rapl.parts():
                self._rapl.read("")
        joules = self._rapl.joules()
        if joules is not None:
            self.meters.setdefault("cpu", Meter()).push_counter(clock(), joules)

    def start(self) -> None:
        """Have every probe run in its thread."""
        for collector in self.collectors:
            collector.start()

    def stop(self) -> None:
        """Let the threads end."""
        for collector in self.collectors:
            collector.stop()

    def watch(self) -> None:
        """Notice what hangs. Once a second."""
        self._count_processors()
        for collector in self.collectors:
            collector.watch()

    def hear(self, told: Told) -> None:
        """This is so from now on."""
        at = clock()
        (self.paused.set if told.paused else self.paused.clear)()
        if told.offline and not self.told.offline:
            for meter in self.meters.values():
                meter.ring.begin_outage(at)
        if self.told.offline and not told.offline:
            found = {device: meter.ring.end_outage() for device, meter in self.meters.items()}
            self._outages = {device: window for device, window in found.items() if window is not None}
            self._outage_ended = at
        self.told = told
        if any("cpu" in attempt["devices"] for attempt in told.attempts):
            self._count_processors()
        for attempt in told.attempts:
            self._attend(attempt, at)
        keys = {attempt["key"] for attempt in told.attempts}
        self._marks = {key: marks for key, marks in self._marks.items() if key in keys}
        self._begun = {key: since for key, since in self._begun.items() if key in keys}
        self._over = {key: since for key, since in self._over.items() if key in keys}

    def _attend(self, attempt: Mapping[str, Any], at: float) -> None:
        key, metered = attempt["key"], [each for each in attempt["devices"] if each in self.meters]
        if metered and key not in self._marks:
            # One that began before this process did: its devices' counters have gone on, what was integrated is lost.
            before = {device: Mark(*mark) for device, mark in attempt.get("marks", {}).items()}
            if before:
                self._marks[key] = before
            else:
                self._mark(attempt, metered)
                self._begun[key] = at
            self._want(metered)
        if attempt.get("ended") is not None and key not in self._over:
            self._over[key] = at
            self._want(metered)

    def _mark(self, attempt: Mapping[str, Any], devices: Iterable[str]) -> None:
        """Its beginning, as far as known now."""
        marks = {device: self.meters[device].mark(attempt["started"]) for device in devices}
        self._marks[attempt["key"]] = marks
        self.marked[attempt["key"]] = {
            device: mark._replace(integrated=None) for device, mark in marks.items()
        }

    def settle(self) -> None:
        """Mark beginnings again whose counters have been read since: a reading may be a minute old before that."""
        for attempt in self.told.attempts:
            since = self._begun.get(attempt["key"])
            if since is not None and self._served(attempt["devices"], since):
                del self._begun[attempt["key"]]
                self._mark(attempt, self._marks[attempt["key"]])

    def _served(self, devices: Iterable[str], since: float) -> bool:
        """Whether the readings that were asked for have been made, or have been waited for long enough."""
        waits = any(power.wanted.intersection(devices) for power in self._powers)
        return not waits or clock() - since > _SETTLE_S

    def _want(self, devices: Iterable[str]) -> None:
        for device in devices:
            for power in self._powers:
                if power.has(device):
                    power.wanted.add(device)

    def ended(self) -> dict[str, dict[str, Any] | None]:
        """Energy of attempts that ended, by key, once its counters have been read since; None where it is not known."""
        self.settle()
        found: dict[str, dict[str, Any] | None] = {}
        for attempt in self.told.attempts:
            key, devices = attempt["key"], attempt["devices"]
            since = self._over.get(key)
            if since is None or since == float("inf"):
                continue
            if self._served(devices, since):
                found[key] = self._spent(key, devices, attempt["ended"])
                self._over[key] = float("inf")
        return found

    def _spent(self, key: str, devices: Sequence[str], ended: float) -> dict[str, Any] | None:
        """Of all its devices together; None when it is not known of one of them."""
        marks, found = self._marks.get(key, {}), []
        for device in devices:
            meter, begin = self.meters.get(device), marks.get(device)
            one = None if meter is None or begin is None else spent(begin, meter.mark(ended), meter.believed)
            if one is None:
                return None
            found.append(one)
        counted = all(each.method == "counter" for each in found)
        return {
            "joules": sum(each.joules for each in found),
            "method": "counter" if counted else "integrated",
            "throttled_s": sum(each.throttled_s for each in found),
        }

    @property
    def settling(self) -> bool:
        """Whether an attempt's beginning or end waits to be told."""
        return bool(self._begun) or any(since != float("inf") for since in self._over.values())

    def collect(self) -> str:
        """The exposition of all that is known now."""
        samples: list[Sample] = []
        for collector in self.collectors:
            samples += collector.samples()
        samples += self._standing(self._learn(samples))
        for collector in self.collectors:
            samples += collector.about()
        samples += self._metered()
        samples += self._xids.samples(self._known)
        samples += self._own()
        return render(samples)

    def _learn(self, samples: Iterable[Sample]) -> set[str]:
        """Who is who; returns the labels of the GPUs that answer now."""
        answering = set()
        for sample in samples:
            if sample.name == "fleet_gpu_info":
                pairs = dict(part.split('="', 1) for part in sample.labels.rstrip('"').split('",'))
                own = labels(gpu=pairs["gpu"], uuid=pairs["uuid"])
                self._known[pairs["pci_address"]] = own
                answering.add(own)
        return answering

    def _standing(self, answering: set[str]) -> list[Sample]:
        """Which GPUs answer, of those that the bus shows and that have somebody to answer through."""
        if self._bus is None:
            return []
        readings = Readings()
        for gpu in self._bus.found:
            own = self._known.get(gpu.pci_address) or labels(gpu=gpu.gpu, uuid="")
            if gpu.driver in gpus.ANSWERING:
                readings.add("fleet_gpu_up", own, int(own in answering))
        return readings.samples + gpus.states(self._bus.found, self._known)

    def _metered(self) -> list[Sample]:
        readings, now = Readings(), clock()
        by_device = {f"gpu{own.split(chr(34))[1]}": own for own in self._known.values()}
        for device, meter in list(self.meters.items()):
            own = by_device.get(device)
            if own is None:
                continue
            for seconds in _WINDOWS:
                _add_window(readings, own, f"{seconds:g}s", meter.ring.window(now, seconds))
            if now - self._outage_ended < _OUTAGE_SHOWN_S:
                _add_window(readings, own, "offline", self._outages.get(device))
            total = meter.total()
            if total is not None:
                readings.add("fleet_gpu_energy_joules_total", joined(own, method=total[1]), total[0])
        for attempt in self.told.attempts:
            for device in attempt["devices"] if attempt.get("ended") is None else ():
                if device in by_device:
                    text = joined(by_device[device], job_id=str(attempt["job_id"]))
                    readings.add("fleet_job_info", text, 1)
        return readings.samples

    def _own(self) -> list[Sample]:
        readings = Readings()
        readings.add("fleet_agent_build_info", labels(version=self._version), 1)
        readings.add("fleet_agent_clock_offset_seconds", "", self.told.offset_s)
        for name, pid in self._pids.items():
            seconds, resident = _usage(pid)
            readings.add("fleet_agent_cpu_seconds_total", labels(process=name), seconds)
            readings.add("fleet_agent_resident_memory_bytes", labels(process=name), resident)
        return readings.samples


def _add_window(readings: Readings, own: str, name: str, window: Window | None) -> None:
    if window is not None:
        text = joined(own, window=name)
        readings.add("fleet_gpu_power_peak_watts", text, window.high)
        readings.add("fleet_gpu_power_low_watts", text, window.low)
        readings.add("fleet_gpu_power_mean_watts", text, window.mean)
        readings.add("fleet_gpu_power_deviation_watts", text, window.deviation)


def _usage(pid: int) -> tuple[float | None, int | None]:
    """Processor seconds and resident bytes of a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None, None
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def attend(
    telemetry: Telemetry, told: BinaryIO, say: Callable[[dict[str, Any]], None], served: Served
) -> None:
    """Collect at the interval, and hear what is told, until its end."""
    descriptor, rest = told.fileno(), b""
    due = watched = clock() + _FIRST_S
    while True:
        now = clock()
        if now >= min(watched, due):  # together: to wake up costs as much as to look
            telemetry.watch()
            watched = now + _WATCH_S
        if now >= due:
            due = max(due + telemetry.told.every_s, now)
            served.text = telemetry.collect()
            say({"metrics": served.text, "devices": sorted(telemetry.meters)})
        energy = telemetry.ended()
        if telemetry.marked:
            say({"marks": telemetry.marked})
            telemetry.marked = {}
        if energy:
            say({"energy": energy})
        pause = 0.02 if telemetry.settling else max(0.0, min(due, watched) - clock())
        if select.select([descriptor], [], [], pause)[0]:
            heard = os.read(descriptor, 1 << 16)
            if not heard:
                return
            *lines, rest = (rest + heard).split(b"\n")
            for line in lines:
                before = telemetry.told.every_s
                telemetry.hear(Told.of(line))
                if telemetry.told.every_s != before:
                    due = min(due, clock() + telemetry.told.every_s)


def main(arguments: list[str]) -> None:
    """Be the process."""
    parser = argparse.ArgumentParser(prog="python -m fleet.agents.telemetry", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the agent's state directory")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where /sys and /proc are (tests)")
    parser.add_argument("--listen", default="", help="host:port on which /metrics is served too")
    parser.add_argument("--version", default="", help="what to call the agent")
    parser.add_argument("--config", type=Path, default=CONFIG, help="what it cannot find by itself, in TOML")
    options = parser.parse_args(arguments)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a vendor's library prints is no message

    def say(document: dict[str, Any]) -> None:
        out.write(json.dumps(document).encode() + b"\n")

    xids = Xids()
    telemetry = Telemetry(
        sources(options.root, options.state, xids, load(options.config)), xids, options.version
    )
    served = Served()
    if options.listen:
        serve(options.listen, served)
    telemetry.start()
    with contextlib.suppress(BrokenPipeError):
        attend(telemetry, sys.stdin.buffer, say, served)
    os._exit(0)  # a thread that hangs in a driver would hold an ordinary exit up


if __name__ == "__main__":
    main(sys.argv[1:])
