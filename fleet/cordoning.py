"""When a node is cordoned by itself, and when that is over: frozen values in, cordons out. Pure; fleet/cordons.py writes.

A cordon of this kind goes with its reason, but for flapping, which goes when the node has been steady for a while: a node
that comes and goes would else be let in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fleet.health import Action, Verdict

FLAPS = 5  # times within FLAPS_S that a node was unreachable or its agent began anew
FLAPS_S = 3600.0
STEADY_S = 1800.0
FEWEST_GPUS = 2  # that are not in order, and half of all
BARRED = (Verdict.SUSPECT, Verdict.FAILED)


class CordonKind(StrEnum):
    """Why a node takes nothing new although no operator said so."""

    FLAPPING = "flapping"  # it comes and goes
    GPUS = "gpus"  # one of its GPUs wants a reboot, or too many are not in order
    CLOCK = "clock"  # its clock is off
    ACCEPTANCE = "acceptance"  # it was not found to be what its model says


@dataclass(frozen=True)
class Fault:
    """What is found at a device of a node (gpu0, or the node itself)."""

    device: str
    verdict: str
    reason: str
    action: str


@dataclass(frozen=True)
class NodeHealth:
    """A node as far as cordons go: what is found at it, how many GPUs it has, which are not ok, when it flapped, and the
    automatic cordons that it has, by kind."""

    node_id: int
    faults: tuple[Fault, ...] = ()
    gpus: int = 0
    gpus_out: tuple[str, ...] = ()
    flaps: tuple[float, ...] = ()
    cordons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Put:
    """The node takes nothing new, for this reason."""

    node_id: int
    kind: CordonKind
    reason: str


@dataclass(frozen=True)
class Lift:
    """The reason is gone."""

    node_id: int
    kind: CordonKind


def changes(nodes: Iterable[NodeHealth], now: float) -> tuple[Put | Lift, ...]:
    """What is to be cordoned and what no longer. Acceptance is not decided here."""
    found: list[Put | Lift] = []
    for node in nodes:
        wanted = {
            CordonKind.CLOCK: _clock(node.faults),
            CordonKind.GPUS: _gpus(node),
            CordonKind.FLAPPING: _flapping(node, now),
        }
        for kind, reason in wanted.items():
            before = node.cordons.get(kind)
            if reason and before is None:
                found.append(Put(node.node_id, kind, reason))
            elif not reason and before is not None:
                found.append(Lift(node.node_id, kind))
    return tuple(found)


def _clock(faults: Sequence[Fault]) -> str:
    wrong = (fault for fault in faults if fault.device == "node" and fault.action == Action.SYNC_CLOCK)
    return next((f"{fault.reason}; {fault.action}" for fault in wrong if fault.verdict in BARRED), "")


def _gpus(node: NodeHealth) -> str:
    for fault in node.faults:
        if fault.verdict == Verdict.FAILED and fault.action == Action.REBOOT:
            return f"{fault.device}: {fault.reason}; {fault.action}"
    out = len(node.gpus_out)
    if out >= FEWEST_GPUS and 2 * out >= node.gpus:
        return f"{out} of {node.gpus} GPUs are not in order: {', '.join(node.gpus_out)}"
    return ""


def _flapping(node: NodeHealth, now: float) -> str:
    flaps = [at for at in node.flaps if now - at < FLAPS_S]
    if CordonKind.FLAPPING in node.cordons:
        steady = all(now - at >= STEADY_S for at in flaps)
        return "" if steady else node.cordons[CordonKind.FLAPPING]
    if len(flaps) < FLAPS:
        return ""
    return f"it came and went {len(flaps)} times within an hour; it is let in after half an hour without"
