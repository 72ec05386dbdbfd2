"""People's keys from a forge, once: by user name, over the SSRF guard, and pinned from then on.

What the forge shows later changes nothing here: a key that is added there opens nothing, one that is removed there is removed
here by a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import access_keys, events, permissions
from fleet.errors import AlreadyExists, InvalidSpec
from fleet.guard import Client, read_text
from fleet.models import SshKey
from fleet.permissions import Permission
from fleet.principals import Principal

KNOWN = {
    "github": "github.com",
    "gitlab": "gitlab.com",
    "codeberg": "codeberg.org",
    "sourcehut": "meta.sr.ht",
}
MOST_BYTES = 262_144
_USER = re.compile(r"~?[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Imported:
    """What came of an import: the keys that are kept now, and why each other one is not."""

    source: str
    added: Sequence[SshKey]
    refused: Sequence[str]


def address(forge: str, user: str) -> str:
    """Where a forge shows somebody's keys, one a line. InvalidSpec names the field."""
    host = KNOWN.get(forge, forge)
    if not _HOST.fullmatch(host) or "." not in host:
        raise InvalidSpec("forge", f"give {', '.join(KNOWN)}, or the name of a host that shows /USER.keys")
    if not _USER.fullmatch(user):
        raise InvalidSpec("user", "give the name that the forge knows them by: letters, digits, . _ and -")
    return f"https://{host}/{user}.keys"


def fetch(client: Client, forge: str, user: str) -> list[str]:
    """The lines that a forge shows now. InvalidSpec when it leads inwards, does not answer, or knows nobody of that name."""
    url = address(forge, user)
    text = read_text(client, url, "forge", MOST_BYTES)
    if text is None:
        raise InvalidSpec("user", f"{url} is not there: is the name right?")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InvalidSpec("user", f"{url} shows no key")
    return lines[: access_keys.MOST]


def take(
    session: Session, forge: str, user: str, lines: Sequence[str], principal: Principal, now: float
) -> Imported:
    """Keep those that are good enough as keys of one's own. InvalidSpec when none is."""
    permissions.require(principal, Permission.ACCESS)
    source = address(forge, user)
    added, refused = [], []
    for number, line in enumerate(lines, start=1):
        try:
            key = access_keys.parsed(line)
            added.append(access_keys.insert(session, key, f"{user} {number}", principal, now, source))
        except (InvalidSpec, AlreadyExists) as error:
            refused.append(f"key {number}: {getattr(error, 'problem', str(error))}")
    if not added:
        raise InvalidSpec("user", f"{source} shows no key that can be kept; {'; '.join(refused)}")
    data = {"source": source, "keys": [row.fingerprint for row in added], "refused": len(refused)}
    events.audit(session, principal, "key.import", f"key:{added[0].id}", data, now)
    return Imported(source, added, refused)


def taken(session: Session, first: int) -> Imported:
    """What was taken over in one go, by the id of its first key; what was refused then is not remembered."""
    key = access_keys.get(session, first)
    together = (SshKey.source == key.source) & (SshKey.created_at == key.created_at)
    own = (SshKey.tenant == key.tenant) & (SshKey.person == key.person)
    rows = session.scalars(select(SshKey).where(together, own).order_by(SshKey.id)).all()
    return Imported(key.source, rows, [])
