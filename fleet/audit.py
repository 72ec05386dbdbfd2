"""The chain over the audit: what was changed, taken out or cut off behind the application's back is found.

Every row of the audit gets a seal, HMAC(key, seal before + row), by whoever leads the controllers, in the order of
ids as far as they are there (a row of a slow transaction comes later than its id says, and is sealed later). The key
is a file beside the database, not in it. A chain whose end was cut off is still a chain: an anchor, the newest seal
kept elsewhere, shows that it was longer once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from fleet.audit_rows import Audit, AuditSeal
from fleet.errors import InvalidSpec
from fleet.keyfiles import read_or_make, read_private

ANCHOR_EVERY_S = 3600.0
GRACE_S = 60.0  # a row that is older and not sealed is one that was put in or whose seal was taken out
AT_ONCE = 1000
_WINDOW = 1000  # so far behind the newest sealed id a slow transaction's row may turn up
FIRST = "0" * 64


@dataclass(frozen=True)
class Anchor:
    """The chain as it was at a time: its newest seal, by number."""

    at: float
    number: int
    seal: str


@dataclass(frozen=True)
class Verdict:
    """What a look at the whole chain found: how many rows it read, and what is wrong with it, in words."""

    rows: int
    problems: tuple[str, ...]


def key(path: Path) -> bytes:
    """The chain's key, made at the first start, mode 0600."""
    return bytes.fromhex(read_or_make(path, lambda: secrets.token_hex(32)).strip())


def known_key(path: Path) -> bytes:
    """The chain's key. InvalidSpec when there is none: a new one would verify nothing."""
    try:
        return bytes.fromhex(read_private(path).strip())
    except FileNotFoundError as error:
        raise InvalidSpec("--data", f"there is no {path}: give the folder of the server's data") from error


def seal(session: Session, with_key: bytes) -> int:
    """Seal what has no seal yet, a thousand rows at most; returns how many."""
    newest = _newest(session)
    number, before, reached = (newest.number, newest.seal, newest.audit_id) if newest else (0, FIRST, 0)
    rows: Sequence[Audit] = session.scalars(_unsealed(reached).limit(AT_ONCE)).all()
    for row in rows:
        number, before = number + 1, _seal(with_key, before, row)
        session.add(AuditSeal(number=number, audit_id=row.id, seal=before))
    session.flush()
    return len(rows)


def unsealed(session: Session) -> bool:
    """Whether there is something to seal: asked at every tick, and it costs no write."""
    newest = _newest(session)
    return session.scalars(_unsealed(newest.audit_id if newest else 0).limit(1)).first() is not None


def _unsealed(reached: int) -> Select[Any]:
    """Rows without a seal, in order of ids; `reached` is the one that was sealed last."""
    query = select(Audit).outerjoin(AuditSeal, AuditSeal.audit_id == Audit.id)
    return query.where(AuditSeal.number.is_(None), Audit.id > reached - _WINDOW).order_by(Audit.id)


def anchor(session: Session, now: float) -> Anchor | None:
    """The chain's newest seal; None before the first."""
    newest = _newest(session)
    return None if newest is None else Anchor(now, newest.number, newest.seal)


def export(session: Session, path: Path, now: float) -> Anchor | None:
    """Append an anchor to the file when its last one is an hour old; returns it. Copy the file off this machine."""
    last = next(reversed(anchors(path)), None)
    fresh = anchor(session, now)
    if fresh is None or (last is not None and now - last.at < ANCHOR_EVERY_S):
        return None
    path.touch(mode=0o600)
    with path.open("a", encoding="utf-8") as file:
        file.write(line(fresh) + "\n")
    return fresh


def line(found: Anchor) -> str:
    """An anchor as a line of a file."""
    return json.dumps(asdict(found))


def anchors(path: Path) -> list[Anchor]:
    """The anchors in a file; none when there is no file. InvalidSpec for a line that is none."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        return [Anchor(**json.loads(each)) for each in lines if each]
    except (ValueError, TypeError) as error:
        raise InvalidSpec(str(path), "this is not a file of anchors, one JSON object a line") from error


def verify(session: Session, with_key: bytes, held: Iterable[Anchor], now: float) -> Verdict:
    """Go through the whole chain. Only its first break is named: what follows cannot be told."""
    by_number = {each.number: each for each in held}
    rows, problems, before = 0, [], FIRST
    for link, row in _chain(session):
        rows += 1
        if link.number != rows:
            problems.append(f"seal {rows} is missing")
        elif row is None:
            problems.append(f"row {link.audit_id} of the audit was taken out")
        elif not hmac.compare_digest(link.seal, _seal(with_key, before, row)):
            problems.append(
                f"row {link.audit_id} of the audit is not the one that was sealed, or its seal is not"
            )
        elif link.number in by_number and by_number[link.number].seal != link.seal:
            problems.append(f"seal {link.number} is not the one that was anchored: the chain was made anew")
        if problems:
            break
        before = link.seal
    longest = max(by_number, default=0)
    if not problems and longest > rows:
        problems.append(f"the chain ends at {rows}, and an anchor has seen {longest}: its end was cut off")
    return Verdict(rows, (*problems, *_never_sealed(session, now)))


def _never_sealed(session: Session, now: float) -> Iterator[str]:
    query = select(Audit.id).outerjoin(AuditSeal, AuditSeal.audit_id == Audit.id)
    query = query.where(AuditSeal.number.is_(None), Audit.at < now - GRACE_S).order_by(Audit.id).limit(1)
    for audit_id in session.scalars(query):
        yield f"row {audit_id} of the audit was never sealed: it was put in, or no controllers run"


def _chain(session: Session) -> Iterator[tuple[AuditSeal, Audit | None]]:
    query = select(AuditSeal, Audit).outerjoin(Audit, Audit.id == AuditSeal.audit_id)
    query = query.order_by(AuditSeal.number).execution_options(yield_per=AT_ONCE)
    for link, row in session.execute(query):  # noqa: UP028 - rows of two, typed as such only when taken apart
        yield link, row


def _newest(session: Session) -> AuditSeal | None:
    return session.scalars(select(AuditSeal).order_by(AuditSeal.number.desc()).limit(1)).first()


def _seal(with_key: bytes, before: str, row: Audit) -> str:
    fields = [row.id, row.at, row.tenant, row.principal, row.action, row.subject, row.data]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hmac.new(with_key, f"{before}\n{text}".encode(), hashlib.sha256).hexdigest()
