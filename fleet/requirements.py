"""What a job asks of the nodes, and which node could ever run it. Pure: frozen values, no clock and no database.

Each refusal names the requirement that it rests on, so that somebody who waits can be told which one to lift.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

from fleet import dialects
from fleet.agents.protocol import PROTOCOL_VERSION, JobKind
from fleet.lifecycle import NodeState

# Measuring kinds: alone on the device, or the timings mean nothing. The others share its slots.
EXCLUSIVE = frozenset({JobKind.KERNEL, JobKind.MEASURE, JobKind.CONFIRM})
TRUSTS = ("sealed", "shared", "tainted")  # falling
# What agents may offer, for those who wait for it.
FEATURES = {
    "network": "the network to commands (its operator starts the agent with --job-network)",
    "containers": "containers to commands (it has no podman that works there: tinyfleet node doctor says why)",
}
SHOWN = 3  # how many nodes a reason names
_OLDER = frozenset({"kind", "arch", "target_id", "node_id", "threads"})


@dataclass(frozen=True)
class Needs:
    """What a job needs of a node, each of its ranks the same. `arch` is a prefix of the cpu's; `threads` are of the
    node's cores, `slots` of those that its cpu shares out; `labels` are `key=value`, `anti_labels` those or a key."""

    kind: JobKind
    arch: str | None = None
    target_id: str | None = None
    node_id: int | None = None
    threads: int = 1
    slots: int = 1
    gpus: int = 0
    gpu_arch: str | None = None  # a prefix
    gpu_memory_bytes: int = 0  # of each GPU, at least
    gpu_vendor: str | None = None
    gpu_driver: str | None = None
    whole_node: bool = False  # every GPU that the node has in order, and nobody beside it
    alone: str = ""  # "gpu": on GPUs of its own; "node": nothing else runs on the node meanwhile
    labels: tuple[str, ...] = ()
    anti_labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()  # that the node's agent must offer
    rack: str | None = None
    trust: str | None = None  # at least so trusted
    ranks: int = 1  # on so many nodes at once, or on none
    burnin: str = (
        ""  # the GPU that it tests, by name, which only has to be there and not to be on its way out
    )

    def __hash__(self) -> int:
        """Worked out once: it is a key in all that placement looks up."""
        known: int | None = self.__dict__.get("_hash")
        if known is None:
            known = hash(tuple(value for name, value in self.__dict__.items() if name != "_hash"))
            self.__dict__["_hash"] = known
        return known

    @property
    def exclusive(self) -> bool:
        """True when nothing else may hold the node's cpu meanwhile."""
        measured = self.kind in EXCLUSIVE or (self.kind is JobKind.BURNIN and not self.gpus)
        return measured or self.whole_node or self.alone == "node"

    def text(self) -> str:
        """The same text for jobs that wait for the same thing."""
        hold = "exclusive" if self.exclusive else "shared"
        compiles = "" if self.kind is JobKind.NOOP else "compiles "
        wishes = f"arch={self.arch or ''} target={self.target_id or ''} node={self.node_id or ''}"
        more = "".join(f" {name}={value}" for name, value in self.asked().items())
        return f"{compiles}{hold} threads={self.threads} {wishes}{more}"

    def asked(self) -> dict[str, Any]:
        """The requirements that were given, by name; what is as usual is left out."""
        found = ((name, getattr(self, name), default) for name, default in _newer())
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value, default in found
            if value != default
        }

    def lifted(self, requirement: str) -> Needs:
        """The same without this requirement."""
        return replace(self, **_LIFTED[requirement])


@cache
def _newer() -> tuple[tuple[str, Any], ...]:
    """The fields that jobs have not always had, with what they are as usual."""
    return tuple((each.name, each.default) for each in fields(Needs) if each.name not in _OLDER)


_LIFTED: dict[str, dict[str, Any]] = {
    "node": {"node_id": None},
    "threads": {"threads": 1},
    "arch": {"arch": None},
    "target": {"target_id": None},
    "slots": {"slots": 1},
    "gpus": {"gpus": 0},
    "whole_node": {"whole_node": False},
    "exclusive": {"alone": ""},
    "gpu_vendor": {"gpu_vendor": None},
    "gpu_driver": {"gpu_driver": None},
    "gpu_arch": {"gpu_arch": None},
    "gpu_memory_bytes": {"gpu_memory_bytes": 0},
    "labels": {"labels": ()},
    "anti_labels": {"anti_labels": ()},
    "features": {"features": ()},
    "rack": {"rack": None},
    "trust": {"trust": None},
    "ranks": {"ranks": 1},
}
LIFTABLE = tuple(_LIFTED)


@dataclass(frozen=True)
class DeviceView:
    """A device and what holds it. Times are epoch seconds; `ends` are (until, slots) of what shares it."""

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
    free_at: float = 0.0  # by when the timeouts of what runs there have passed
    ends: tuple[tuple[float, int], ...] = ()
    memory_bytes: int = 0
    vendor: str = ""
    driver: str = ""
    health: str = "ok"


@dataclass(frozen=True)
class Window:
    """From when until when a node is kept for a tenant, or (tenant None) for work on the node itself."""

    start: float
    end: float
    tenant: str | None = None
    reason: str = ""

    def text(self) -> str:
        """What it is, for somebody who waits."""
        return f"reserved for {self.tenant}" if self.tenant is not None else "in maintenance"


@dataclass(frozen=True)
class NodeView:
    """A node, its three axes, its devices, where it stands, and when it is kept for something."""

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
    labels: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()
    rack: str = ""
    windows: tuple[Window, ...] = ()
    drain_by: float | None = None
    updating: bool = False  # it changes its version once it has no attempts
    protocol: int = PROTOCOL_VERSION
    barred: str = ""  # why it is cordoned although no operator said so

    def unavailable(self, kind: JobKind | None = None) -> str:
        """Why nothing new (of this kind) goes to this node; empty when it takes work. A burn-in is what a cordoned node
        may be waiting for."""
        if self.state != NodeState.READY:
            return f"is {self.state}"
        if self.cordoned and kind is not JobKind.BURNIN:
            return "is cordoned"
        if self.barred and kind is not JobKind.BURNIN:
            return f"is cordoned by itself: {self.barred}"
        if self.contested:
            return "is used by two live agents: an operator has to decide"
        if self.updating:
            return "is about to change its version"
        return "" if self.contact == "online" else f"is {self.contact}"

    @property
    def cpu(self) -> DeviceView | None:
        """Its cpu device, which every attempt holds a part of."""
        return next((each for each in self.devices if each.kind == "cpu" and each.present), None)

    @property
    def gpus(self) -> tuple[DeviceView, ...]:
        """Its GPUs that are there, whatever holds them."""
        return tuple(each for each in self.devices if each.kind == "gpu" and each.present)


@dataclass(frozen=True)
class Misfit:
    """Why a node can never run a job as they both are: which requirement, and how it is not met."""

    requirement: str
    problem: str


# ------------------------------------------------------------------------------------------- decisions


def fit(needs: Needs, node: NodeView) -> tuple[DeviceView | None, str]:
    """The node's cpu device, when the job could run on the node once it is free, or why it never could."""
    found = misfits(needs, node)
    return (None, found[0].problem) if found else (node.cpu, "")


def misfits(needs: Needs, node: NodeView) -> tuple[Misfit, ...]:
    """Everything that keeps this node from ever running the job; nothing when it only has to become free."""
    return tuple(each for each in _checks(needs, node) if each.problem)


def _checks(needs: Needs, node: NodeView) -> Iterable[Misfit]:
    if needs.node_id is not None and node.id != needs.node_id:
        yield Misfit("node", "is not the node asked for")
    yield Misfit("available", node.unavailable(needs.kind))
    if not dialects.knows(node.protocol, needs.kind):
        yield Misfit("available", f"has an agent of before jobs of kind {needs.kind}: bring it up to date")
    if needs.threads > node.cores:
        yield Misfit("threads", f"has {node.cores} cores, not {needs.threads}")
    yield from _cpu_checks(needs, node.cpu)
    yield from _gpu_checks(needs, node)
    if missing := [label for label in needs.labels if label not in node.labels]:
        yield Misfit("labels", f"has no label {', '.join(missing)}")
    if unwanted := [label for label in needs.anti_labels if _has(node, label)]:
        yield Misfit("anti_labels", f"has the label {', '.join(unwanted)}")
    if absent := [name for name in needs.features if name not in node.features]:
        yield Misfit("features", f"does not offer {', '.join(FEATURES.get(name, name) for name in absent)}")
    if needs.rack is not None and node.rack != needs.rack:
        yield Misfit("rack", f"is in {f'rack {node.rack}' if node.rack else 'no rack'}, not in {needs.rack}")
    if needs.trust is not None and TRUSTS.index(node.trust) > TRUSTS.index(needs.trust):
        yield Misfit("trust", f"is {node.trust}, not {needs.trust}")


def _has(node: NodeView, unwanted: str) -> bool:
    """A key alone stands for every value."""
    if "=" in unwanted:
        return unwanted in node.labels
    return any(label.partition("=")[0] == unwanted for label in node.labels)


def _cpu_checks(needs: Needs, cpu: DeviceView | None) -> Iterable[Misfit]:
    if cpu is None:
        yield Misfit("available", "has no cpu device")
        return
    if needs.arch is not None and not cpu.arch.startswith(needs.arch):
        yield Misfit("arch", f"has architecture {cpu.arch}, not {needs.arch}")
    elif needs.target_id is not None and cpu.target_id != needs.target_id:
        yield Misfit("target", "has another target")
    elif _compiles(needs.kind) and (cpu.problem or cpu.target_id is None):
        yield Misfit("available", f"cannot compile: {cpu.problem or 'it reports no target'}")
    if needs.slots > cpu.slots:
        yield Misfit("slots", f"has {cpu.slots} CPU slots, not {needs.slots}")


def _compiles(kind: JobKind) -> bool:
    return kind not in (JobKind.NOOP, JobKind.BURNIN, JobKind.COMMAND)


def _gpu_checks(needs: Needs, node: NodeView) -> Iterable[Misfit]:
    """The first quality for want of which too few GPUs are left, and any other that alone leaves too few."""
    wanted = needs.gpus
    if not wanted:
        return
    if len(node.gpus) < wanted:
        yield Misfit("gpus", f"has {_gpus(len(node.gpus))}, not {wanted}")
        return
    left = list(node.gpus)
    for requirement, problem, suits in _qualities(needs):
        alone = [gpu for gpu in node.gpus if suits(gpu)]
        left = [gpu for gpu in left if suits(gpu)]
        if len(alone) < wanted:
            yield Misfit(requirement, f"has {_gpus(len(alone))} {problem}, not {wanted}")
    if len(left) < wanted and all(
        sum(suits(gpu) for gpu in node.gpus) >= wanted for _, _, suits in _qualities(needs)
    ):
        yield Misfit("gpus", f"has {_gpus(len(left))} with all of that, not {wanted}")


def _qualities(needs: Needs) -> list[tuple[str, str, Any]]:
    if needs.burnin:
        burns = ("ok", "retest")
        return [("available", "to test", lambda gpu: gpu.name == needs.burnin and gpu.health in burns)]
    found: list[tuple[str, str, Any]] = [
        ("available", "in order", lambda gpu: gpu.health == "ok" and not gpu.problem)
    ]
    if needs.gpu_vendor is not None:
        found.append(("gpu_vendor", f"of {needs.gpu_vendor}", lambda gpu: gpu.vendor == needs.gpu_vendor))
    if needs.gpu_driver is not None:
        problem = f"in the driver mode {needs.gpu_driver}"
        found.append(("gpu_driver", problem, lambda gpu: gpu.driver == needs.gpu_driver))
    if needs.gpu_arch is not None:
        arch = needs.gpu_arch
        found.append(("gpu_arch", f"of architecture {arch}", lambda gpu: gpu.arch.startswith(arch)))
    if needs.gpu_memory_bytes:
        problem = f"of {needs.gpu_memory_bytes / 2**30:.4g} GiB"
        found.append(("gpu_memory_bytes", problem, lambda gpu: gpu.memory_bytes >= needs.gpu_memory_bytes))
    return found


def _gpus(count: int) -> str:
    return f"{count or 'no'} GPU{'' if count == 1 else 's'}"


def suitable(needs: Needs, node: NodeView) -> tuple[DeviceView, ...]:
    """The node's GPUs that the job could have, whatever holds them; all of them for a whole node."""
    qualities = _qualities(needs)
    return tuple(gpu for gpu in node.gpus if all(suits(gpu) for _, _, suits in qualities))


def no_fit(misfits: Sequence[str]) -> str:
    """The reason of what fits on none of the nodes."""
    return f"no node fits: {several(misfits)}" if misfits else "no node is enrolled"


def several(reasons: Sequence[str], count: int | None = None) -> str:
    """The first few of them; `count` when there are more than are given."""
    more = (len(reasons) if count is None else count) - SHOWN
    shown = "; ".join(reasons[:SHOWN])
    return f"{shown}; and {more} more" if more > 0 else shown
