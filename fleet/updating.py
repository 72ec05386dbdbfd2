"""Which node changes its version now. Pure: frozen values and the time in, actions out; fleet/update_ticks.py writes them.

Rings: the canaries first. When all of them have run the version for a while without a failure, or an operator says so,
the others follow, a few at once. A node that is idle or drained goes first; where none is, one that works takes nothing
new until it has nothing left, and then changes. A failure of any node pauses the rollout: an operator looks first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.lifecycle import NodeState
from fleet.lifecycle_updates import RolloutState, UpdateState

OFFER_S = 900.0  # how long a node that runs nothing may take


@dataclass(frozen=True)
class RolloutView:
    """The rollout of the version that is wanted. `canary`: names of nodes; none: the first `canaries` that can."""

    id: int
    version: str
    state: str
    canary: frozenset[str] = frozenset()
    canaries: int = 1
    soak_s: float = 600.0
    at_once: int = 1
    paused: bool = False
    looked_at: float = 0.0  # failures before it count no more: an operator has looked


@dataclass(frozen=True)
class NodeView:
    """A node as far as its version goes. `state`, `ring`, `since`, `offered_at` are of its part in the rollout, if any;
    `since` is when it came to that state."""

    id: int
    name: str
    version: str
    lifecycle: str
    contact: str
    updatable: bool  # it was set up by the installer: root's part keeps its slots
    attempts: int = 0
    contested: bool = False
    state: str | None = None
    ring: str = ""
    since: float = 0.0
    offered_at: float = 0.0
    error: str = ""

    def cannot(self) -> str:
        """Why this node is not offered a version; empty when it can be."""
        if self.lifecycle not in (NodeState.READY, NodeState.DRAINING, NodeState.DRAINED):
            return f"is {self.lifecycle}"
        if not self.updatable:
            return "was not set up by the installer: update it by hand"
        if self.contested:
            return "is used by two live agents"
        return "" if self.contact == "online" else f"is {self.contact}"


@dataclass(frozen=True)
class Offer:
    """Ask this node to change its version."""

    node_id: int
    ring: str


@dataclass(frozen=True)
class GiveUp:
    """This node did not change its version, and did not say why."""

    node_id: int
    error: str


@dataclass(frozen=True)
class Pause:
    """Nobody is offered anything until an operator has looked."""

    reason: str


@dataclass(frozen=True)
class Promote:
    """The canaries have shown enough."""


Step = Offer | GiveUp | Pause | Promote


def plan(rollout: RolloutView, nodes: Sequence[NodeView], now: float) -> tuple[Step, ...]:
    """The steps that a rollout calls for. Failures first: with one nothing is offered."""
    late = [
        GiveUp(node.id, _late(node, now))
        for node in nodes
        if node.state == UpdateState.OFFERED and _late(node, now)
    ]
    failed = [node for node in nodes if node.state == UpdateState.FAILED and node.since > rollout.looked_at]
    if rollout.paused:
        return tuple(late)
    if failed:
        fresh = max(failed, key=lambda node: node.since)
        return (*late, Pause(f"{fresh.name} went back: {fresh.error}"))
    if late:
        return tuple(late)
    if rollout.state == RolloutState.CANARY and _shown(rollout, nodes, now):
        return (Promote(),)
    return tuple(_offers(rollout, nodes))


def _late(node: NodeView, now: float) -> str:
    """Why an offer has to end; empty when the node may go on."""
    if node.attempts or now - node.offered_at <= OFFER_S:
        return ""
    where = "" if node.contact == "online" else f", and is {node.contact}"
    return f"it still runs {node.version} after {OFFER_S / 60:.0f} minutes{where}"


def canaries(rollout: RolloutView, nodes: Sequence[NodeView]) -> tuple[NodeView, ...]:
    """The first ring: the nodes that were named, or as many as are wanted, those that were offered it before all."""
    if rollout.canary:
        return tuple(node for node in nodes if node.name in rollout.canary)
    chosen = [node for node in nodes if node.ring == RolloutState.CANARY]
    others = [node for node in nodes if not node.ring and not node.cannot()]
    others.sort(key=lambda node: (node.attempts > 0, node.id))
    return tuple([*chosen, *others][: max(rollout.canaries, len(chosen))])


def _shown(rollout: RolloutView, nodes: Sequence[NodeView], now: float) -> bool:
    """Whether all canaries have run the version for long enough."""
    ring = canaries(rollout, nodes)
    return bool(ring) and all(_runs(node, rollout) and now - node.since >= rollout.soak_s for node in ring)


def _runs(node: NodeView, rollout: RolloutView) -> bool:
    return node.version == rollout.version and node.state in (None, UpdateState.UPDATED)


def _offers(rollout: RolloutView, nodes: Sequence[NodeView]) -> list[Offer]:
    first = rollout.state == RolloutState.CANARY
    ring = canaries(rollout, nodes) if first else tuple(nodes)
    room = rollout.at_once - sum(node.state == UpdateState.OFFERED for node in nodes)
    wanting = [
        node for node in ring if node.version != rollout.version and node.state is None and not node.cannot()
    ]
    wanting.sort(key=lambda node: (node.attempts > 0, node.id))
    name = RolloutState.CANARY if first else RolloutState.REST
    return [Offer(node.id, str(name)) for node in wanting[: max(0, room)]]
