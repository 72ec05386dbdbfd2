"""The state machines of updates, as tables. Pure, like fleet/lifecycle.py, whose `advance` they go by."""

from __future__ import annotations

from enum import StrEnum

from fleet.lifecycle import Machine, Rescue


class RolloutState(StrEnum):
    """A version on its way to every node. Paused is another axis: then nobody is offered anything."""

    CANARY = "canary"  # the first few nodes get it
    REST = "rest"  # all others may have it too
    SUPERSEDED = "superseded"  # final: another version is wanted since


class RolloutEvent(StrEnum):
    """What happens to a rollout."""

    PROMOTE = "promote"
    SUPERSEDE = "supersede"


class UpdateState(StrEnum):
    """One node's part in a rollout."""

    OFFERED = "offered"  # it takes no new work, and changes its version when it has none left
    UPDATED = "updated"  # it has reported with the version
    FAILED = "failed"  # final: it runs the version before; `error` says why
    WITHDRAWN = "withdrawn"  # final: another version was wanted before it was done


class UpdateEvent(StrEnum):
    """What happens to a node's part in a rollout."""

    DONE = "done"
    FAIL = "fail"
    WITHDRAW = "withdraw"


ROLLOUT = Machine(
    "rollout",
    RolloutState.CANARY,
    {
        RolloutState.CANARY: {
            RolloutEvent.PROMOTE: RolloutState.REST,
            RolloutEvent.SUPERSEDE: RolloutState.SUPERSEDED,
        },
        RolloutState.REST: {RolloutEvent.SUPERSEDE: RolloutState.SUPERSEDED},
        RolloutState.SUPERSEDED: {},
    },
)

UPDATE = Machine(
    "update",
    UpdateState.OFFERED,
    {
        UpdateState.OFFERED: {
            UpdateEvent.DONE: UpdateState.UPDATED,
            UpdateEvent.FAIL: UpdateState.FAILED,
            UpdateEvent.WITHDRAW: UpdateState.WITHDRAWN,
        },
        # A node may return to the version before after its first report: root's part was not told of it in time.
        UpdateState.UPDATED: {UpdateEvent.FAIL: UpdateState.FAILED},
        UpdateState.FAILED: {},
        UpdateState.WITHDRAWN: {},
    },
    {UpdateState.OFFERED: Rescue("fifteen minutes on a node that runs nothing", UpdateEvent.FAIL)},
)
