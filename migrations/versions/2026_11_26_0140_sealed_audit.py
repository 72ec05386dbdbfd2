"""The audit is chained by seals, and the database refuses to change it; secrets are kept encrypted; tokens have
scopes, and operators are a role."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fleet.audit_rows import refusals

revision = "2026_11_26_0140"
down_revision = "2026_11_26_0130"
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """What was written before is sealed with what follows: the chain begins with the first row."""
    op.create_table(
        "audit_seals",
        sa.Column("number", WIDE, autoincrement=False, nullable=False),
        sa.Column("audit_id", WIDE, nullable=False),
        sa.Column("seal", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["audit_id"], ["audit.id"], name="fk_audit_seals_audit_id_audit"),
        sa.PrimaryKeyConstraint("number", name="pk_audit_seals"),
        sa.UniqueConstraint("audit_id", name="uq_audit_seals_audit_id"),
    )
    for statement in refusals(op.get_bind().dialect.name):
        op.get_bind().exec_driver_sql(statement)
    op.create_table(
        "secrets",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("box", sa.String(), nullable=False),
        sa.Column("version", WIDE, nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_secrets_tenant_tenants"),
        sa.PrimaryKeyConstraint("tenant", "name", name="pk_secrets"),
    )
    with op.batch_alter_table("tokens") as table:
        table.add_column(sa.Column("scopes", sa.JSON(none_as_null=True), nullable=True))
        table.drop_constraint(op.f("ck_tokens_role"), type_="check")
        table.create_check_constraint(
            op.f("ck_tokens_role"), "role IN ('admin', 'operator', 'user', 'viewer', 'node', 'join')"
        )
