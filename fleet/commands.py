"""What a command asks for that only the fleet can check: that its inputs are here."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet.agents.protocol import CommandSpec
from fleet.errors import InvalidSpec
from fleet.models import Blob


def check(session: Session, spec: CommandSpec) -> None:
    """InvalidSpec for a file whose blob the fleet does not have."""
    wanted = spec.blobs()
    known = set(session.scalars(select(Blob.address).where(Blob.address.in_(wanted)))) if wanted else set()
    for place, file in enumerate(spec.files):
        if file.blob not in known:
            raise InvalidSpec(
                f"spec.files[{place}].blob",
                f"there is no blob {file.blob}: upload it first, with PUT /v1/blobs/{file.blob}",
            )
