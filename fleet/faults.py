"""What is wrong with nodes' devices: the verdicts of `fleet.health`, kept as rows and told as events when they change.

A GPU that is suspect or failed takes no new work; what runs on it goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from fleet import events
from fleet.finding_rows import FindingRow
from fleet.health import Finding, Verdict

UNWELL = (Verdict.WARNED, Verdict.SUSPECT, Verdict.FAILED)
BARRED = (Verdict.SUSPECT, Verdict.FAILED)
_OF_ONE = select(FindingRow).where(FindingRow.node_id == bindparam("node")).order_by(FindingRow.device)


def known(session: Session, node_ids: Iterable[int]) -> Mapping[int, Sequence[FindingRow]]:
    """What is wrong with these nodes' devices, by node; a node that is well is missing."""
    found: dict[int, list[FindingRow]] = defaultdict(list)
    query = select(FindingRow).where(FindingRow.node_id.in_(set(node_ids)))
    for row in session.scalars(query.order_by(FindingRow.node_id, FindingRow.device)):
        found[row.node_id].append(row)
    return found


def of(session: Session, node_id: int) -> Sequence[FindingRow]:
    """What is wrong with one node's devices."""
    return session.scalars(_OF_ONE, {"node": node_id}).all()


def everywhere(session: Session) -> Mapping[tuple[int, str], FindingRow]:
    """What is wrong, by node and device."""
    return {(row.node_id, row.device): row for row in session.scalars(select(FindingRow))}


def barring(row: FindingRow | None) -> str:
    """Why a device takes no new work, with what answers it; empty when it does."""
    if row is None or row.verdict not in BARRED:
        return ""
    return f"it is {row.verdict}: {row.reason}; {row.action}"


def differ(before: Sequence[FindingRow], found: Mapping[str, Finding]) -> bool:
    """Whether what was found is news. That a count behind the same verdict has grown is none."""
    return {row.device: (row.verdict, row.action) for row in before} != {
        device: (str(each.verdict), str(each.action)) for device, each in found.items()
    }


def observe(session: Session, node_id: int, found: Mapping[str, Finding], now: float) -> None:
    """Keep the worst finding of each device of a node, with an event when a device is barred, or is no longer.

    Warnings come and go by the minute (a GPU that is hot): they are rows, and no events.
    """
    before = {row.device: row for row in known(session, [node_id]).get(node_id, ())}
    for device, each in found.items():
        row = before.pop(device, None)
        told = row is not None and (row.verdict, row.action) == (each.verdict, each.action)
        since = row.since if row is not None and told else now
        session.merge(
            FindingRow(
                node_id=node_id,
                device=device,
                verdict=str(each.verdict),
                reason=each.reason,
                action=str(each.action),
                since=since,
            )
        )
        was_barred = row is not None and row.verdict in BARRED
        if not told and (was_barred or each.verdict in BARRED):
            why = {"reason": each.reason, "action": str(each.action)}
            _tell(session, node_id, device, each.verdict, why, now)
    for device, row in before.items():
        session.delete(row)
        if row.verdict in BARRED:
            _tell(session, node_id, device, Verdict.OK, {}, now)
    session.flush()


def _tell(
    session: Session, node_id: int, device: str, verdict: Verdict, why: Mapping[str, str], now: float
) -> None:
    data = {"device": device, "verdict": str(verdict), **why}
    events.append(session, f"node.device_{verdict}", f"node:{node_id}", data, now)
