"""The tables of logins: people's SSH keys, what was granted, where it stands, and what nodes say of their sshd.

Times are epoch seconds. A person is a name of a tenant, as on their tokens.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from fleet.lifecycle import GRANT
from fleet.schema import Table, one_of, partial_index


class SshKey(Table):
    """A public key of a person, TYPE BASE64. No two people have the same one; `token_id` is what it was added with."""

    __tablename__ = "ssh_keys"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    person: Mapped[str]
    token_id: Mapped[int | None]
    line: Mapped[str]
    type: Mapped[str]
    bits: Mapped[int]
    fingerprint: Mapped[str]
    label: Mapped[str] = mapped_column(default="")
    source: Mapped[str] = mapped_column(default="")  # where it was imported from; empty: sent by its owner
    created_at: Mapped[float]
    removed_at: Mapped[float | None]
    __table_args__ = (
        partial_index("uq_ssh_keys_live", "fingerprint", where="removed_at IS NULL", unique=True),
        partial_index("ix_ssh_keys_person", "tenant", "person", where="removed_at IS NULL"),
    )


class LoginAccount(Table):
    """A person's unix account, the same on every node; neither name nor uid is ever given to another."""

    __tablename__ = "login_accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    person: Mapped[str]
    account: Mapped[str] = mapped_column(unique=True)
    uid: Mapped[int] = mapped_column(unique=True)
    created_at: Mapped[float]
    __table_args__ = (UniqueConstraint("tenant", "person"),)


class Grant(Table):
    """One person's one key on one node or pool. `deadline_at`: when its state ends by itself; `until`: when the login
    does, set by the approval."""

    __tablename__ = "grants"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    person: Mapped[str]
    key_id: Mapped[int] = mapped_column(ForeignKey("ssh_keys.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("login_accounts.id"))
    node_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    pool: Mapped[str | None]
    duration_s: Mapped[float]
    reason: Mapped[str]
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    deadline_at: Mapped[float | None]
    requested_at: Mapped[float]
    requested_by: Mapped[str]
    decided_at: Mapped[float | None]
    decided_by: Mapped[str | None]
    until: Mapped[float | None]
    ended_by: Mapped[str | None]
    end_reason: Mapped[str] = mapped_column(default="")
    __table_args__ = (
        one_of("state", GRANT.states),
        CheckConstraint("(node_id IS NULL) <> (pool IS NULL)", name="one_target"),
        partial_index("ix_grants_due", "deadline_at", where="deadline_at IS NOT NULL"),
        partial_index("ix_grants_person", "tenant", "person", where="deadline_at IS NOT NULL"),
    )


class GrantNode(Table):
    """How one grant stands on one node: since which desired generation it is wanted, or wanted gone, and what the
    node has said."""

    __tablename__ = "grant_nodes"
    grant_id: Mapped[int] = mapped_column(ForeignKey("grants.id"), primary_key=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True, index=True)
    since_generation: Mapped[int]
    asked_at: Mapped[float]
    applied_at: Mapped[float | None]
    end_asked_at: Mapped[float | None]
    gone_at: Mapped[float | None]


class NodeAccess(Table):
    """What a node said last of its logins: how it is reached, its host keys, and what it could not do."""

    __tablename__ = "node_access"
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    reported_at: Mapped[float]
    address: Mapped[str]
    port: Mapped[int]
    host_keys: Mapped[list[Any]]
    certified: Mapped[bool] = mapped_column(default=False)
    problem: Mapped[str] = mapped_column(default="")
    grants: Mapped[list[Any]] = mapped_column(default=list)
    host_certificate: Mapped[str | None]  # what it is to use
    certificate_until: Mapped[float | None]


class SshCertificate(Table):
    """A certificate that was made out for a grant; its id is the serial number."""

    __tablename__ = "ssh_certificates"
    id: Mapped[int] = mapped_column(primary_key=True)
    grant_id: Mapped[int] = mapped_column(ForeignKey("grants.id"), index=True)
    created_at: Mapped[float]
    created_by: Mapped[str]
    until: Mapped[float]


class SshAuthority(Table):
    """Whose certificates nodes accept: the public half of an authority; the newest row counts. The other half is a file
    of the control plane's."""

    __tablename__ = "ssh_authorities"
    id: Mapped[int] = mapped_column(primary_key=True)
    line: Mapped[str]
    created_at: Mapped[float]
