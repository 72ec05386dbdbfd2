"""Who is asking: a value, made by tenants.authenticate from a bearer token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Principal:
    """A user, a service, a node, or a cron that submits its job; its tenant and its role (admin, operator, user, viewer or node).

    `scopes`: the only permissions that its token gives, of those that the role has; None for all of them. `id` is the token's row, except for a node, where it is the node's row, and a cron, where it is the cron's.
    """

    kind: Literal["user", "service", "node", "cron"]
    id: int
    name: str
    tenant: str
    role: str
    scopes: frozenset[str] | None = None
    expires_at: float | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"
