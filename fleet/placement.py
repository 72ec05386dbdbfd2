"""Which device for which job, and why not. Pure: a proposal from frozen values, no clock and no database.

Jobs are looked at in order: priority, then age, which for a search's own jobs is the search's. A job that cannot
be placed never blocks those behind it, with one bounded exception: an exclusive job that has waited `HOLD_AFTER_S`
keeps one device, the one whose work must end first, from taking new shared work. Else a stream of small jobs would
starve it for ever; as it is, it waits no longer than the timeouts of what runs there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fleet.agents.protocol import JobKind
from fleet.lifecycle import NodeState

# Measuring kinds: alone on the device, or the timings mean nothing. The others share its slots.
EXCLUSIVE = frozenset({JobKind.KERNEL, JobKind.MEASURE, JobKind.CONFIRM})
HOLD_AFTER_S = 2.0
_SHOWN = 3  # how many nodes a reason names


@dataclass(frozen=True)
class Needs:
    """What a job needs of a device. `arch` is a prefix of the device's; `threads` are of the node's cores."""

    kind: JobKind
    arch: str | None = None
    target_id: str | None = None
    node_id: int | None = None
    threads: int = 1

    @property
    def exclusive(self) -> bool:
        """True when nothing else may hold the device meanwhile."""
        return self.kind in EXCLUSIVE

    def text(self) -> str:
        """The same text for jobs that wait for the same thing."""
        hold = "exclusive" if self.exclusive else "shared"
        compiles = "" if self.kind is JobKind.NOOP else "compiles "
        wishes = f"arch={self.arch or ''} target={self.target_id or ''} node={self.node_id or ''}"
        return f"{compiles}{hold} threads={self.threads} {wishes}"


@dataclass(frozen=True)
class DeviceView:
    """A device and what holds it."""

    id: int
    name: str
    kind: str
    arch: str
    target_id: str | None
    slots: int
    problem: str = ""
    present: bool = True
    exclusive_held: bool = False
    shared_held: int = 0
    free_at: float = 0.0  # by when the timeouts of what runs there have passed, epoch seconds


@dataclass(frozen=True)
class NodeView:
    """A node, its three axes and its devices."""

    id: int
    name: str
    state: str
    cordoned: bool
    contact: str
    cores: int
    devices: tuple[DeviceView, ...]
    told_contact: str = "online"  # what the last event about it said
    contested: bool = False  # two live agents use its identity
    trust: str = "sealed"

    def unavailable(self) -> str:
        """Why nothing new goes to this node; empty when it takes work."""
        if self.state != NodeState.READY:
            return f"is {self.state}"
        if self.cordoned:
            return "is cordoned"
        if self.contested:
            return "is used by two live agents: an operator has to decide"
        return "" if self.contact == "online" else f"is {self.contact}"


@dataclass(frozen=True)
class Waiting:
    """A queued job; `avoid` are nodes that failed it before. `asked_at`: when the job, or its search, was asked for;
    `queued_at`: since when it waits."""

    id: int
    generation: int
    needs: Needs
    priority: int = 0
    asked_at: float = 0.0
    queued_at: float = 0.0
    avoid: frozenset[int] = frozenset()
    reason: str = ""


@dataclass(frozen=True)
class Placement:
    """A proposal: this job on this device."""

    job_id: int
    generation: int
    node_id: int
    device_id: int
    exclusive: bool


@dataclass(frozen=True)
class Delay:
    """A job stays queued, and why."""

    job_id: int
    generation: int
    reason: str


@dataclass
class _Occupancy:
    """What holds a device while proposals are made."""

    device: DeviceView
    exclusive: bool
    shared: int
    kept: bool = False  # for an exclusive job that has waited long enough

    def busy(self, exclusive: bool) -> str:
        if self.exclusive:
            return "is held exclusively"
        if exclusive:
            return f"is shared by {self.shared}" if self.shared else ""
        if self.kept:
            return "is kept free for an exclusive job"
        return "has no free slot" if self.shared >= self.device.slots else ""

    def take(self, exclusive: bool) -> None:
        self.exclusive = exclusive
        self.shared += not exclusive


Fitting = tuple[list[tuple[NodeView, _Occupancy]], list[str]]  # where a job could run, and why not elsewhere


@dataclass
class _Floor:
    """The fleet's devices during one placement."""

    nodes: Sequence[NodeView]
    devices: dict[int, _Occupancy] = field(default_factory=dict)
    fitting: dict[Needs, Fitting] = field(default_factory=dict)  # jobs of the same needs fit the same nodes

    def __post_init__(self) -> None:
        for device in (device for node in self.nodes for device in node.devices):
            self.devices[device.id] = _Occupancy(device, device.exclusive_held, device.shared_held)


def place(
    jobs: Iterable[Waiting], nodes: Sequence[NodeView], now: float
) -> tuple[list[Placement], list[Delay]]:
    """Proposals for the queued jobs, and the reasons of those that must wait on."""
    floor = _Floor(nodes)
    placements, delays = [], []
    for job in sorted(jobs, key=lambda job: (-job.priority, job.asked_at, job.id)):
        found = _place_one(job, floor, now)
        if isinstance(found, Placement):
            placements.append(found)
        else:
            delays.append(found)
    return placements, delays


def _place_one(job: Waiting, floor: _Floor, now: float) -> Placement | Delay:
    if job.needs not in floor.fitting:
        floor.fitting[job.needs] = _candidates(job.needs, floor)
    fitting, misfits = floor.fitting[job.needs]
    if not fitting:
        return Delay(job.id, job.generation, no_fit(misfits))
    preferred = [pair for pair in fitting if pair[0].id not in job.avoid] or fitting
    exclusive = job.needs.exclusive
    free = [(node, spot) for node, spot in preferred if not spot.busy(exclusive)]
    if not free:
        if exclusive and now - job.queued_at >= HOLD_AFTER_S:
            _keep_one([spot for _, spot in preferred])
        return Delay(job.id, job.generation, _all_busy(preferred, exclusive))
    node, spot = min(free, key=lambda pair: (pair[1].shared / pair[1].device.slots, pair[0].id))
    spot.take(exclusive)
    return Placement(job.id, job.generation, node.id, spot.device.id, exclusive)


def _keep_one(spots: Sequence[_Occupancy]) -> None:
    """Keep the device that is free first for an exclusive job, unless each is kept for one already.

    The choice is made anew at every look and is the same one: elsewhere new work makes the end later.
    """
    open_to_all = [spot for spot in spots if not spot.kept]
    if open_to_all:
        min(open_to_all, key=lambda spot: (spot.device.free_at, spot.device.id)).kept = True


def _candidates(needs: Needs, floor: _Floor) -> Fitting:
    fitting, misfits = [], []
    if needs.node_id is not None and all(node.id != needs.node_id for node in floor.nodes):
        return [], ["the node that it is for was retired"]
    for node in floor.nodes:
        device, problem = fit(needs, node)
        if device is None:
            misfits.append(f"{node.name} {problem}")
        else:
            fitting.append((node, floor.devices[device.id]))
    return fitting, misfits


def fit(needs: Needs, node: NodeView) -> tuple[DeviceView | None, str]:
    """The node's device that could run the job when free, or why there is none."""
    if needs.node_id is not None and node.id != needs.node_id:
        return None, "is not the node asked for"
    if problem := node.unavailable():
        return None, problem
    if needs.threads > node.cores:
        return None, f"has {node.cores} cores, not {needs.threads}"
    problem = "has no cpu device"
    for device in node.devices:
        if device.kind == "cpu" and device.present:
            problem = misfit(needs, device)
            if not problem:
                return device, ""
    return None, problem


def misfit(needs: Needs, device: DeviceView) -> str:
    """Why this device can never run the job; empty when it can."""
    if needs.arch is not None and not device.arch.startswith(needs.arch):
        return f"has architecture {device.arch}, not {needs.arch}"
    if needs.target_id is not None and device.target_id != needs.target_id:
        return "has another target"
    if needs.kind is not JobKind.NOOP and (device.problem or device.target_id is None):
        return f"cannot compile: {device.problem or 'it reports no target'}"
    return ""


def no_fit(misfits: Sequence[str]) -> str:
    """The reason of what fits on none of the nodes."""
    return f"no node fits: {_several(misfits)}" if misfits else "no node is enrolled"


def _all_busy(pairs: list[tuple[NodeView, _Occupancy]], exclusive: bool) -> str:
    busy = [f"{node.name}/{spot.device.name} {spot.busy(exclusive)}" for node, spot in pairs]
    return f"waits for a device: {_several(busy)}"


def _several(reasons: Sequence[str]) -> str:
    shown = "; ".join(reasons[:_SHOWN])
    return f"{shown}; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else shown
