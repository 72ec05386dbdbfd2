"""Tokens: their shape, their life, and who may mint which."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from fleet import events, tenants
from fleet.errors import InvalidSpec, NotFound, NotPermitted
from fleet.models import Token
from fleet.principals import Principal


def test_a_minted_token_authenticates_its_holder(session: Session, now: float) -> None:
    _, secret = tenants.mint(session, name="ada", role="user", now=now)
    found = tenants.authenticate(session, secret, now)
    assert (found.kind, found.name, found.tenant, found.role) == ("user", "ada", "default", "user")


def test_only_a_digest_of_the_secret_is_stored(session: Session, now: float) -> None:
    row, secret = tenants.mint(session, name="ada", role="user", now=now)
    stored = [str(getattr(row, column.name)) for column in Token.__table__.columns]
    assert not any(secret[4:20] in text for text in stored)


def test_secrets_have_the_shape_that_scanners_know(session: Session, now: float) -> None:
    _, secret = tenants.mint(session, name="ci", role="user", now=now, kind="service")
    assert secret.startswith("tfs_")
    assert len(secret) == 4 + 43 + 6
    assert tenants.well_formed(secret)
    assert not tenants.well_formed(secret[:-1] + ("0" if secret[-1] != "0" else "1"))


@pytest.mark.parametrize("secret", ["", "tfu_short", "tfu_" + "0" * 49, "tfx_" + "0" * 49])
def test_what_is_no_token_is_refused(session: Session, now: float, secret: str) -> None:
    with pytest.raises(NotPermitted, match="malformed"):
        tenants.authenticate(session, secret, now)


def test_a_token_expires(session: Session, now: float) -> None:
    _, secret = tenants.mint(session, name="ada", role="user", now=now, ttl_s=60.0)
    tenants.authenticate(session, secret, now + 59.0)
    with pytest.raises(NotPermitted, match="expired"):
        tenants.authenticate(session, secret, now + 60.0)


def test_a_revoked_token_is_refused(session: Session, admin: Principal, now: float) -> None:
    row, secret = tenants.mint(session, name="ada", role="user", now=now)
    assert tenants.revoke(session, row.id, admin, now).revoked_at == now
    assert tenants.revoke(session, row.id, admin, now + 5).revoked_at == now
    with pytest.raises(NotPermitted, match="revoked"):
        tenants.authenticate(session, secret, now)
    with pytest.raises(NotFound):
        tenants.revoke(session, 999, admin, now)


def test_a_revocation_is_an_event_once(session: Session, admin: Principal, now: float) -> None:
    row, _ = tenants.mint(session, name="ada", role="user", now=now)
    for _ in range(2):
        tenants.revoke(session, row.id, admin, now)
    told = [(event.kind, event.subject, event.data) for event in events.page(session)]
    assert told == [("token.revoked", f"token:{row.id}", {"name": "ada"})]


def test_the_last_use_of_a_token_only_moves_on(session: Session, now: float) -> None:
    row, _ = tenants.mint(session, name="ada", role="user", now=now)
    assert row.last_used_at is None
    for at in (now + 60.0, now):
        tenants.used(session, {row.id: at})
    session.refresh(row)
    assert row.last_used_at == now + 60.0


def test_nobody_mints_a_role_above_their_own(session: Session, now: float) -> None:
    _, secret = tenants.mint(session, name="ada", role="user", now=now)
    ada = tenants.authenticate(session, secret, now)
    tenants.mint(session, name="bob", role="viewer", now=now, by=ada)
    with pytest.raises(NotPermitted):
        tenants.mint(session, name="eve", role="admin", now=now, by=ada)
    with pytest.raises(NotPermitted):
        tenants.mint_join(session, now=now, by=ada)
    assert [row.action for row in events.audit_page(session)] == ["token.mint"]


def test_an_unknown_role_names_the_ones_there_are(session: Session, now: float) -> None:
    with pytest.raises(InvalidSpec, match="viewer, user, operator, admin"):
        tenants.mint(session, name="x", role="root", now=now)  # type: ignore[arg-type]


def test_a_join_token_is_no_bearer(session: Session, admin: Principal, now: float) -> None:
    secret = tenants.mint_join(session, now=now, by=admin)
    with pytest.raises(NotPermitted):
        tenants.authenticate(session, secret, now)


def test_the_first_start_leaves_an_admin_token_that_only_its_owner_reads(
    session: Session, tmp_path: Path, now: float
) -> None:
    path = tmp_path / "data" / "admin-token"
    secret = tenants.ensure_admin(session, path, now)
    assert secret is not None
    assert path.read_text().strip() == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert tenants.authenticate(session, secret, now).role == "admin"
    assert tenants.ensure_admin(session, path, now) is None
    for row in tenants.page(session):
        row.expires_at = now
    assert tenants.ensure_admin(session, path, now) not in (None, secret)  # nobody is locked out
    assert [row.name for row in tenants.page(session)] == ["admin", "admin"]
