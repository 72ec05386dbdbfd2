"""A sync of a node at rest, which is nearly every one: nothing runs there, nothing is asked of it, and it says nothing new.

One look tells whether a node is at rest. Then one UPDATE records the report, and the answer is known; `fleet.sync` does the
rest, and answers the same. Three hundred nodes do this sixty times a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, bindparam, exists, func, select, update
from sqlalchemy.orm import Session

from fleet.agents.protocol import PROTOCOL_VERSION, Desired, Observed
from fleet.identities import KEY_AGE_S
from fleet.lifecycle import AttemptState, NodeState
from fleet.lifecycle_gpus import GpuState
from fleet.lifecycle_updates import UpdateState
from fleet.models import Attempt, GpuLadder, Node, NodeAccess, NodeKey, NodeUpdate, Standing
from fleet.settings import Timings

_ASKED = (
    exists().where(Attempt.node_id == Node.id, Attempt.state != AttemptState.ENDED),
    exists().where(NodeAccess.node_id == Node.id),
    exists().where(GpuLadder.node_id == Node.id, GpuLadder.state == GpuState.RESETTING),
    exists().where(NodeUpdate.node_id == Node.id, NodeUpdate.state == UpdateState.OFFERED),
)
# Statements that are made once: to build one costs as much as to run it.
_LOOK = (
    select(
        Node.boot_id,
        Node.settled,
        Node.desired_generation,
        Standing.rotate,
        select(func.max(NodeKey.created_at))
        .where(NodeKey.node_id == Node.id)
        .scalar_subquery()
        .label("key_made_at"),
    )
    .join(Standing, Standing.node_id == Node.id)
    .where(Node.id == bindparam("node"), Node.state == NodeState.READY, Node.protocol == PROTOCOL_VERSION)
    .where(*(~each for each in _ASKED))
)
_BEAT = (
    update(Node)
    .where(Node.id == bindparam("node"), Node.boot_id == bindparam("boot"))
    .where(Node.sequence < bindparam("said"))
    .values(
        sequence=bindparam("said"), applied_generation=bindparam("applied"), last_seen=bindparam("seen_at")
    )
    .execution_options(synchronize_session=False)
)


@dataclass(frozen=True)
class AtRest:
    """A node of which nothing is asked; `boot_id` is of its last report."""

    node_id: int
    boot_id: str | None
    generation: int
    rotate: bool
    key_made_at: float | None

    def desired(self, now: float, timings: Timings) -> Desired:
        """What it is told."""
        old = self.key_made_at is not None and now - self.key_made_at > KEY_AGE_S
        return Desired(
            generation=self.generation,
            attempts=[],
            lease_s=timings.lease_s,
            poll_s=timings.poll_s,
            rotate_key=self.rotate or old,
        )


def at_rest(session: Session, node_id: int) -> AtRest | None:
    """The node, when nothing is asked of it, nothing runs there and all that ended there is settled; else None."""
    row = session.execute(_LOOK, {"node": node_id}).one_or_none()
    if row is None or row.settled:
        return None
    return AtRest(node_id, row.boot_id, row.desired_generation, row.rotate, row.key_made_at)


def take(session: Session, node_id: int, observed: Observed, now: float) -> AtRest | None:
    """Record a report of a node at rest that says nothing new. None of any other, and then nothing is written."""
    if not _says_nothing(observed):
        return None
    node = at_rest(session, node_id)
    if node is None or node.boot_id != observed.boot_id:
        return None
    values = {
        "node": node_id,
        "boot": observed.boot_id,
        "said": observed.sequence,
        "applied": observed.generation,
        "seen_at": now,
    }
    written = cast("CursorResult[Any]", session.execute(_BEAT, values)).rowcount == 1
    return node if written else None


def _says_nothing(observed: Observed) -> bool:
    said = (observed.inventory, observed.access, observed.update, observed.data)
    return not observed.attempts and not observed.resets and all(each is None for each in said)
