"""Secrets that have to be used again: encrypted at rest, never shown, their key rotated.

Fernet (AES-128-CBC with HMAC-SHA256): the first of the keys encrypts, all of them decrypt. A box also names whose it
is, so that a row that was moved to another tenant or name does not open. The keys are a file, mode 0600, or the
environment's; the database alone gives nothing away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import events, permissions
from fleet.errors import InvalidSpec, NotFound
from fleet.keyfiles import read_or_make, write_private
from fleet.models import StoredSecret
from fleet.principals import Principal

LONGEST_VALUE = 16_384
VARIABLE = "TINYFLEET_SECRET_KEYS"


def keys(path: Path, environ: Mapping[str, str]) -> list[str]:
    """The keys, the newest one first: the environment's (separated by commas), else the file's (one a line), which
    the first start makes. InvalidSpec for what is no key."""
    given = environ.get(VARIABLE, "")
    found = given.split(",") if given else read_or_make(path, _new_key).split()
    _box(found)
    return found


def add_key(path: Path) -> int:
    """Put a new key before those in the file; returns how many there are. Then `rotate`, then `drop_keys`."""
    found = [_new_key(), *keys(path, {})]
    write_private(path, "\n".join(found) + "\n")
    return len(found)


def drop_keys(path: Path) -> None:
    """Keep the newest key only: what is still encrypted with an older one cannot be read any more."""
    write_private(path, keys(path, {})[0] + "\n")


def _new_key() -> str:
    return Fernet.generate_key().decode()


def _box(found: Sequence[str]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(each.strip()) for each in found])
    except ValueError as error:
        raise InvalidSpec(
            VARIABLE, "these are not keys: 32 bytes in URL-safe base64, the newest first"
        ) from error


def put(
    session: Session, name: str, value: str, found: Sequence[str], principal: Principal, now: float
) -> StoredSecret:
    """Keep a value under a name of the principal's tenant, in place of the one before."""
    permissions.require(principal, permissions.Permission.SECRETS)
    if not 0 < len(value) <= LONGEST_VALUE:
        raise InvalidSpec("value", f"must have 1 to {LONGEST_VALUE} characters")
    row = store(session, principal.tenant, name, value, found, str(principal), now)
    events.audit(session, principal, "secret.put", f"secret:{name}", {"version": row.version}, now)
    return row


def store(
    session: Session, tenant: str, name: str, value: str, found: Sequence[str], by: str, now: float
) -> StoredSecret:
    """Keep a value, unasked: for what the control plane keeps of its own, under names with a slash, which no user's
    secret has and no list shows."""
    row = session.get(StoredSecret, (tenant, name))
    if row is None:
        row = StoredSecret(tenant=tenant, name=name, version=0, created_by=by, created_at=now)
        session.add(row)
    row.version += 1
    row.box = _closed(_box(found), row.tenant, name, value)
    row.updated_at = now
    session.flush()
    return row


def forget(session: Session, tenant: str, name: str) -> None:
    """Take out what was stored, if it was."""
    row = session.get(StoredSecret, (tenant, name))
    if row is not None:
        session.delete(row)


def value_of(session: Session, tenant: str, name: str, found: Sequence[str]) -> str:
    """The value, for who has to use it inside the control plane: no route returns it. NotFound; InvalidSpec when no
    key opens it."""
    row = session.get(StoredSecret, (tenant, name))
    if row is None:
        raise NotFound("secret", name)
    return _opened(_box(found), row)


def page(session: Session, tenant: str, after: str = "", limit: int = 50) -> Sequence[StoredSecret]:
    """A tenant's secrets after a name, in order of names."""
    query = select(StoredSecret).where(
        StoredSecret.tenant == tenant, StoredSecret.name > after, StoredSecret.name.not_like("%/%")
    )
    return session.scalars(query.order_by(StoredSecret.name).limit(limit)).all()


def remove(session: Session, name: str, principal: Principal, now: float) -> None:
    """Forget a secret. NotFound."""
    permissions.require(principal, permissions.Permission.SECRETS)
    row = session.get(StoredSecret, (principal.tenant, name))
    if row is None:
        raise NotFound("secret", name)
    session.delete(row)
    events.audit(session, principal, "secret.remove", f"secret:{name}", {}, now)


def rotate(session: Session, found: Sequence[str]) -> int:
    """Encrypt every secret with the newest key; returns how many. InvalidSpec when one does not open: none is lost."""
    box = _box(found)
    rows = session.scalars(select(StoredSecret)).all()
    for row in rows:
        row.box = _closed(box, row.tenant, row.name, _opened(box, row))
    session.flush()
    return len(rows)


def _closed(box: MultiFernet, tenant: str, name: str, value: str) -> str:
    return box.encrypt(json.dumps([tenant, name, value]).encode()).decode()


def _opened(box: MultiFernet, row: StoredSecret) -> str:
    try:
        tenant, name, value = json.loads(box.decrypt(row.box))
    except InvalidToken as error:
        raise InvalidSpec(
            VARIABLE, f"none of the keys opens the secret {row.name}: give the older ones too"
        ) from error
    if (tenant, name) != (row.tenant, row.name):
        raise InvalidSpec(row.name, "this secret was put in the place of another: set it anew")
    return str(value)
