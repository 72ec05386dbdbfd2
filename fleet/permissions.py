"""Who may do what: roles are sets of permissions, and a token may be narrowed to some of its role's. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from fleet.errors import NotPermitted
from fleet.principals import Principal

HOME = "default"  # the tenant of those who own the machines


class Permission(StrEnum):
    """One thing that a route can ask for."""

    WHOAMI = "whoami"  # see who one is: every principal may, however narrow its token
    READ = "read"  # see nodes, kernels, and one's tenant's jobs, searches and events
    METRICS = "metrics"  # scrape what nodes and the control plane say for Prometheus
    FETCH = "fetch"  # read blobs, by whose address one knows them
    WORK = "work"  # submit and cancel jobs and searches
    UPLOAD = "upload"  # store blobs
    OPERATE = "operate"  # cordon, uncordon and drain nodes
    TRUST = "trust"  # trust, readmit, retire nodes; purge what they said
    JOIN = "join"  # mint join tokens
    TOKENS = "tokens"  # list, mint and revoke tokens
    PEOPLE = "people"  # remove a person
    COLLECT = "collect"  # see what would be collected, and have it collected
    WEBHOOKS = "webhooks"  # send a tenant's events elsewhere
    ACCESS = "access"  # keep one's own SSH keys, ask for logins with them, end one's own
    GRANT = "grant"  # decide about anybody's logins, and end them
    QUOTAS = "quotas"  # say what tenants may have
    SECRETS = "secrets"  # set, list and delete secrets
    REPORT = "report"  # what agents do


_VIEWER = frozenset({Permission.WHOAMI, Permission.READ, Permission.METRICS, Permission.FETCH})
_USER = _VIEWER | {Permission.WORK, Permission.UPLOAD, Permission.ACCESS}
_OPERATOR = _USER | {Permission.OPERATE}
_ADMIN = frozenset(Permission) - {Permission.REPORT}
_NODE = frozenset({Permission.WHOAMI, Permission.FETCH, Permission.UPLOAD, Permission.REPORT})
ROLES: Mapping[str, frozenset[Permission]] = {
    "viewer": _VIEWER,
    "user": _USER,
    "operator": _OPERATOR,
    "admin": _ADMIN,
    "node": _NODE,
}
# What is about everybody's machines is not given to another tenant's administrators.
_HOME_ONLY = frozenset(
    {
        Permission.METRICS,
        Permission.OPERATE,
        Permission.TRUST,
        Permission.JOIN,
        Permission.COLLECT,
        Permission.GRANT,
        Permission.QUOTAS,
    }
)


def of(principal: Principal) -> frozenset[Permission]:
    """What a principal may do: its role's permissions, of its tenant's kind, as far as its token reaches."""
    held = ROLES.get(principal.role, frozenset())
    if principal.tenant != HOME:
        held -= _HOME_ONLY
    if principal.scopes is not None:
        held &= {Permission.WHOAMI, *principal.scopes}
    return held


def require(principal: Principal, wanted: Permission) -> None:
    """NotPermitted unless the principal has this permission."""
    if wanted in of(principal):
        return
    if wanted in _HOME_ONLY and principal.tenant != HOME:
        raise NotPermitted(
            f"this takes the permission {wanted}, which is the tenant {HOME}'s alone; your token is of {principal.tenant}"
        )
    roles = " or ".join(role for role, held in ROLES.items() if wanted in held)
    narrowed = " with this scope" if principal.scopes is not None else ""
    raise NotPermitted(
        f"this takes the permission {wanted} ({roles}{narrowed}); your role is {principal.role}"
    )
