"""Who is asking: a value, made by tenants.authenticate from a bearer token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Principal:
    """A user, a service or a node, its tenant and its role (admin, user, viewer or node).

    `id` is the token's row, except for a node, where it is the node's row.
    """

    kind: Literal["user", "service", "node"]
    id: int
    name: str
    tenant: str
    role: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"
