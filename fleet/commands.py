"""What a command asks for that only the fleet has: that its inputs are here, and its secrets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import blobs, datasets, db, events, holders, secrets_kept
from fleet.agents.protocol import CommandSpec
from fleet.errors import InvalidSpec, NotFound, StaleWrite
from fleet.lifecycle import AttemptState
from fleet.models import Attempt, Job, Lease, StoredSecret


def check(session: Session, spec: CommandSpec, tenant: str) -> None:
    """InvalidSpec for a file whose blob is not the tenant's, and for a secret that it does not have."""
    if spec.inside is not None:
        raise InvalidSpec("spec.inside", "is filled in by the control plane: use POST /v1/jobs/{id}/exec")
    wanted = spec.blobs()
    known = blobs.touch(session, holders.may_use(session, tenant, wanted), db.now(session))
    for place, file in enumerate(spec.files):
        if file.blob not in known:
            raise InvalidSpec(
                f"spec.files[{place}].blob",
                f"there is no blob {file.blob}: upload it first, with PUT /v1/blobs/{file.blob}",
            )
    unknown = datasets.missing(session, tenant, spec.data.values()) if spec.data else set()
    for folder, address in spec.data.items():
        if address in unknown:
            raise InvalidSpec(
                f"spec.data.{folder}",
                f"there is no data set {address}: push it first, with tinyfleet data push",
            )
    names = select(StoredSecret.name).where(StoredSecret.tenant == tenant)
    kept = set(session.scalars(names.where(StoredSecret.name.in_(spec.secrets.values()))))
    for variable, name in spec.secrets.items():
        if name not in kept:
            raise InvalidSpec(
                f"spec.secrets.{variable}",
                f"there is no secret {name}: an administrator keeps it with tinyfleet secrets set {name}",
            )


def requires(spec: CommandSpec, asked: dict[str, Any]) -> dict[str, Any]:
    """What the job requires of nodes beside what was asked: the network, containers, and that secrets go to no tainted node.
    InvalidSpec."""
    needed = {"network": spec.network, "containers": spec.container is not None}
    if any(needed.values()):
        more = {name for name, is_needed in needed.items() if is_needed}
        asked = {**asked, "features": sorted({*asked.get("features", []), *more})}
    if not spec.secrets:
        return asked
    if asked.get("trust") == "tainted":
        raise InvalidSpec("requirements.trust", "secrets go to no tainted node: ask for shared or sealed")
    return {"trust": "shared", **asked}


def secrets_for(
    session: Session, node_id: int, attempt_id: int, fence: int, found: Sequence[str], now: float
) -> dict[str, str]:
    """The secrets of an attempt that its node is to start: variable → value; that they were handed out is an event.

    NotFound for another node's attempt and for a secret that was removed; StaleWrite for an old fence, or an attempt
    that is over. `found` are the keys of the secrets at rest.
    """
    attempt = session.get(Attempt, attempt_id)
    if attempt is None or attempt.node_id != node_id:
        raise NotFound("attempt", attempt_id)
    held = session.scalars(select(Lease.id).where(Lease.attempt_id == attempt_id)).first()
    if held != fence or attempt.state == AttemptState.ENDED:
        raise StaleWrite("attempt", attempt_id, f"fence {fence} is not that of a live attempt")
    wanted: dict[str, str] = attempt.spec.get("secrets", {})
    if not wanted:
        return {}
    tenant = session.scalars(select(Job.tenant).where(Job.id == attempt.job_id)).one()
    values = {
        variable: secrets_kept.value_of(session, tenant, name, found) for variable, name in wanted.items()
    }
    data = {"job": attempt.job_id, "node": node_id, "names": sorted(set(wanted.values()))}
    events.append(session, "attempt.secrets", f"attempt:{attempt_id}", data, now)
    return values
