"""People's SSH keys, the logins that are granted to them, and what nodes say of theirs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_0400"
down_revision = "2026_11_26_0350"
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def column(name: str, kind: Any, nullable: bool = False) -> sa.Column[Any]:
    """A column; every one is given its value by the program."""
    return sa.Column(name, kind, nullable=nullable)


def partial(name: str, table: str, columns: list[str], where: str, unique: bool = False) -> None:
    """An index over the rows that match."""
    clause = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=clause, postgresql_where=clause)


def upgrade() -> None:
    """Seven tables; nothing that was there changes."""
    op.create_table(
        "ssh_keys",
        column("id", WIDE),
        column("tenant", sa.String),
        column("person", sa.String),
        column("token_id", WIDE, nullable=True),
        column("line", sa.String),
        column("type", sa.String),
        column("bits", WIDE),
        column("fingerprint", sa.String),
        column("label", sa.String),
        column("source", sa.String),
        column("created_at", sa.Double),
        column("removed_at", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ssh_keys")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_ssh_keys_tenant_tenants")),
    )
    partial("uq_ssh_keys_live", "ssh_keys", ["fingerprint"], "removed_at IS NULL", unique=True)
    partial("ix_ssh_keys_person", "ssh_keys", ["tenant", "person"], "removed_at IS NULL")
    op.create_table(
        "login_accounts",
        column("id", WIDE),
        column("tenant", sa.String),
        column("person", sa.String),
        column("account", sa.String),
        column("uid", WIDE),
        column("created_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_accounts")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_login_accounts_tenant_tenants")),
        sa.UniqueConstraint("account", name=op.f("uq_login_accounts_account")),
        sa.UniqueConstraint("uid", name=op.f("uq_login_accounts_uid")),
        sa.UniqueConstraint("tenant", "person", name=op.f("uq_login_accounts_tenant_person")),
    )
    states = "'requested', 'denied', 'active', 'revoking', 'revoked', 'expired'"
    op.create_table(
        "grants",
        column("id", WIDE),
        column("tenant", sa.String),
        column("person", sa.String),
        column("key_id", WIDE),
        column("account_id", WIDE),
        column("node_id", WIDE, nullable=True),
        column("pool", sa.String, nullable=True),
        column("duration_s", sa.Double),
        column("reason", sa.String),
        column("state", sa.String),
        column("state_at", sa.Double),
        column("generation", WIDE),
        column("deadline_at", sa.Double, nullable=True),
        column("requested_at", sa.Double),
        column("requested_by", sa.String),
        column("decided_at", sa.Double, nullable=True),
        column("decided_by", sa.String, nullable=True),
        column("until", sa.Double, nullable=True),
        column("ended_by", sa.String, nullable=True),
        column("end_reason", sa.String),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_grants_tenant_tenants")),
        sa.ForeignKeyConstraint(["key_id"], ["ssh_keys.id"], name=op.f("fk_grants_key_id_ssh_keys")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["login_accounts.id"], name=op.f("fk_grants_account_id_login_accounts")
        ),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_grants_node_id_nodes")),
        sa.CheckConstraint(f"state IN ({states})", name=op.f("ck_grants_state")),
        sa.CheckConstraint("(node_id IS NULL) <> (pool IS NULL)", name=op.f("ck_grants_one_target")),
    )
    partial("ix_grants_due", "grants", ["deadline_at"], "deadline_at IS NOT NULL")
    partial("ix_grants_person", "grants", ["tenant", "person"], "deadline_at IS NOT NULL")
    op.create_table(
        "grant_nodes",
        column("grant_id", WIDE),
        column("node_id", WIDE),
        column("since_generation", WIDE),
        column("asked_at", sa.Double),
        column("applied_at", sa.Double, nullable=True),
        column("end_asked_at", sa.Double, nullable=True),
        column("gone_at", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("grant_id", "node_id", name=op.f("pk_grant_nodes")),
        sa.ForeignKeyConstraint(["grant_id"], ["grants.id"], name=op.f("fk_grant_nodes_grant_id_grants")),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_grant_nodes_node_id_nodes")),
    )
    op.create_index("ix_grant_nodes_node_id", "grant_nodes", ["node_id"])
    op.create_table(
        "node_access",
        column("node_id", WIDE),
        column("reported_at", sa.Double),
        column("address", sa.String),
        column("port", WIDE),
        column("host_keys", sa.JSON(none_as_null=True)),
        column("certified", sa.Boolean),
        column("problem", sa.String),
        column("grants", sa.JSON(none_as_null=True)),
        column("host_certificate", sa.String, nullable=True),
        column("certificate_until", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_node_access")),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_node_access_node_id_nodes")),
    )
    op.create_table(
        "ssh_certificates",
        column("id", WIDE),
        column("grant_id", WIDE),
        column("created_at", sa.Double),
        column("created_by", sa.String),
        column("until", sa.Double),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ssh_certificates")),
        sa.ForeignKeyConstraint(
            ["grant_id"], ["grants.id"], name=op.f("fk_ssh_certificates_grant_id_grants")
        ),
    )
    op.create_index("ix_ssh_certificates_grant_id", "ssh_certificates", ["grant_id"])
    op.create_table(
        "ssh_authorities",
        column("id", WIDE),
        column("line", sa.String),
        column("created_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ssh_authorities")),
    )
