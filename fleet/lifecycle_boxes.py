"""The state machines of boxes: of one in the stock, and of a node that is held against its model. Pure tables, like
fleet/lifecycle.py, whose `advance` they go by."""

from __future__ import annotations

from enum import StrEnum

from fleet.lifecycle import Machine, Rescue


class BoxState(StrEnum):
    """A box of the stock."""

    ORDERED = "ordered"  # it is not here yet
    STORED = "stored"  # it is here and does nothing
    INSTALLED = "installed"  # it stands where it works
    REPAIR = "repair"  # it is being mended, here or at its maker's
    SCRAPPED = "scrapped"  # final; it went away for good


class BoxEvent(StrEnum):
    """What happens to a box; each leads to the state that it is named for."""

    STORE = "store"
    INSTALL = "install"
    REPAIR = "repair"
    SCRAP = "scrap"


class AcceptanceState(StrEnum):
    """A node that is held against the limits of its model."""

    MEASURING = "measuring"  # its burn-ins run; it is cordoned
    ACCEPTED = "accepted"  # it was what its model says
    REFUSED = "refused"  # it was not; it stays cordoned, and the lines say why


class AcceptanceEvent(StrEnum):
    """What happens to it."""

    ASK = "ask"
    ACCEPT = "accept"
    REFUSE = "refuse"


BOX = Machine(
    "box",
    BoxState.ORDERED,
    {
        BoxState.ORDERED: {
            BoxEvent.STORE: BoxState.STORED,
            BoxEvent.INSTALL: BoxState.INSTALLED,
            BoxEvent.SCRAP: BoxState.SCRAPPED,
        },
        BoxState.STORED: {
            BoxEvent.INSTALL: BoxState.INSTALLED,
            BoxEvent.REPAIR: BoxState.REPAIR,
            BoxEvent.SCRAP: BoxState.SCRAPPED,
        },
        BoxState.INSTALLED: {
            BoxEvent.STORE: BoxState.STORED,
            BoxEvent.REPAIR: BoxState.REPAIR,
            BoxEvent.SCRAP: BoxState.SCRAPPED,
        },
        BoxState.REPAIR: {
            BoxEvent.STORE: BoxState.STORED,
            BoxEvent.INSTALL: BoxState.INSTALLED,
            BoxEvent.SCRAP: BoxState.SCRAPPED,
        },
        BoxState.SCRAPPED: {},
    },
)
BOX_EVENTS = {
    BoxState.STORED: BoxEvent.STORE,
    BoxState.INSTALLED: BoxEvent.INSTALL,
    BoxState.REPAIR: BoxEvent.REPAIR,
    BoxState.SCRAPPED: BoxEvent.SCRAP,
}

ACCEPTANCE = Machine(
    "acceptance",
    AcceptanceState.MEASURING,
    {
        AcceptanceState.MEASURING: {
            AcceptanceEvent.ACCEPT: AcceptanceState.ACCEPTED,
            AcceptanceEvent.REFUSE: AcceptanceState.REFUSED,
        },
        AcceptanceState.ACCEPTED: {AcceptanceEvent.ASK: AcceptanceState.MEASURING},
        AcceptanceState.REFUSED: {AcceptanceEvent.ASK: AcceptanceState.MEASURING},
    },
    {
        AcceptanceState.MEASURING: Rescue(
            "the timeouts of its burn-ins, and a minute for its metrics", AcceptanceEvent.REFUSE
        )
    },
)
