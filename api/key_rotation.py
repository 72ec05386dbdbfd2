"""Rotate the keys of the secrets at rest, on the server's machine."""

from __future__ import annotations

from collections.abc import Mapping

from fleet import secrets_kept
from fleet.db import engine_for, session_factory, writing
from fleet.errors import InvalidSpec
from fleet.settings import Settings


def rotate_keys(settings: Settings, environ: Mapping[str, str]) -> int:
    """A new key, everything encrypted with it, then the older keys dropped; returns how many secrets. Where the keys
    are the environment's, they are not changed: put the new one first there, rotate, then take the others out.

    InvalidSpec when there is no key.
    """
    sessions = session_factory(engine_for(settings.database_url))
    if environ.get(secrets_kept.VARIABLE):
        with writing(sessions) as session:
            return secrets_kept.rotate(session, secrets_kept.keys(settings.secret_keys_file, environ))
    if not settings.secret_keys_file.exists():
        raise InvalidSpec("--data", f"there is no {settings.secret_keys_file}: no secret was ever kept")
    secrets_kept.add_key(settings.secret_keys_file)
    with writing(sessions) as session:
        rotated = secrets_kept.rotate(session, secrets_kept.keys(settings.secret_keys_file, environ))
    secrets_kept.drop_keys(settings.secret_keys_file)
    return rotated
