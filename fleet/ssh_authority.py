"""The option of certificates: an SSH authority made by ssh-keygen, whose private half is a file of the control plane's.

A person's certificate lives 8 h at most, is made out to one grant, and every node lists which grants it lets into which
account, until when: a certificate opens nothing that the key itself would not. A node's own lets people know it without
having seen its key.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import access, access_nodes, events, nodes, permissions
from fleet.agents.public_keys import parse
from fleet.errors import AlreadyExists, InvalidSpec
from fleet.lifecycle import GrantState, NodeState
from fleet.models import Node, NodeAccess, SshAuthority, SshCertificate, SshKey
from fleet.permissions import Permission
from fleet.principals import Principal

LONGEST_S = 8 * 3600.0
HOST_S, RENEW_S = 90 * 86_400.0, 30 * 86_400.0
_BACK_S = 60  # a clock that is a little behind accepts it at once
_KEYGEN_S = 20.0


@dataclass(frozen=True)
class Certificate:
    """One certificate, as it stands in a file, with its serial and its end (epoch seconds)."""

    line: str
    serial: int
    until: float


def make(session: Session, path: Path, now: float) -> str:
    """Make an authority; returns its public half, TYPE BASE64. AlreadyExists when the file is there."""
    if path.exists():
        raise AlreadyExists("SSH authority", path, "it is used already; take it away to make another")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _keygen("-q", "-t", "ed25519", "-N", "", "-C", "tinyfleet SSH authority", "-f", str(path))
    line = parse(path.with_name(f"{path.name}.pub").read_text(encoding="utf-8")).line
    session.add(SshAuthority(line=line, created_at=now))
    session.flush()
    events.append(session, "ssh.authority_made", "ssh:authority", {"line": line}, now)
    for node_id in session.scalars(select(NodeAccess.node_id)).all():
        nodes.redirect(session, node_id)
    return line


def issue(
    session: Session, path: Path, grant_id: int, ttl_s: float, principal: Principal, now: float
) -> Certificate:
    """A certificate for one's own grant, by its key. InvalidSpec without an authority, and for a grant that is not
    active; NotFound."""
    permissions.require(principal, Permission.ACCESS)
    grant = access.get(session, grant_id, principal)
    if grant.state != GrantState.ACTIVE or grant.until is None:
        raise InvalidSpec("grant", f"grant {grant_id} is {grant.state}: only an active one has certificates")
    if access_nodes.authority(session) is None or not path.exists():
        raise InvalidSpec(
            "grant", "this fleet has no SSH authority: log in with the key itself, or tinyfleet ca ssh"
        )
    until = min(now + ttl_s, grant.until)
    row = SshCertificate(grant_id=grant.id, created_at=now, created_by=str(principal), until=until)
    session.add(row)
    session.flush()
    key = session.get_one(SshKey, grant.key_id)
    options = ["-n", f"grant-{grant.id}", "-z", str(row.id), "-O", "clear", "-O", "permit-pty"]
    line = _signed(path, key.line, f"grant-{grant.id}-{grant.person}", until - now, *options)
    data = {"serial": row.id, "until": until}
    events.audit(session, principal, "grant.certify", f"grant:{grant.id}", data, now)
    return Certificate(line, row.id, until)


def hosts_due(session: Session, now: float) -> list[tuple[int, str, str]]:
    """Nodes whose own certificate is missing or ends soon: id, name and the host key that it is made out for."""
    soon = NodeAccess.certificate_until.is_(None) | (NodeAccess.certificate_until < now + RENEW_S)
    query = select(Node.id, Node.name, NodeAccess.host_keys).join(NodeAccess, NodeAccess.node_id == Node.id)
    found = session.execute(query.where(soon, Node.state != NodeState.RETIRED).limit(16))
    return [(node_id, name, keys[0]) for node_id, name, keys in found if keys]


def certify_host(session: Session, path: Path, node_id: int, name: str, key: str, now: float) -> None:
    """A node's own certificate, delivered with what it is wanted to do."""
    row = session.get_one(NodeAccess, node_id)
    if key not in row.host_keys:
        return  # it changed meanwhile: next time
    alias = access_nodes.alias(name)
    row.host_certificate = _signed(path, key, alias, HOST_S, "-h", "-n", alias)
    row.certificate_until = now + HOST_S
    nodes.redirect(session, node_id)


def _signed(path: Path, key: str, name: str, ttl_s: float, *options: str) -> str:
    """ssh-keygen's certificate for a key, TYPE BASE64."""
    with tempfile.TemporaryDirectory(prefix="tinyfleet-") as folder:
        public = Path(folder) / "key.pub"
        public.write_text(key + "\n", encoding="utf-8")
        valid = f"-{_BACK_S}s:+{max(1, int(ttl_s))}s"
        _keygen("-q", "-s", str(path), "-I", name, "-V", valid, *options, str(public))
        words = (Path(folder) / "key-cert.pub").read_text(encoding="utf-8").split()
    return f"{words[0]} {words[1]}"


def _keygen(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["ssh-keygen", *arguments], capture_output=True, text=True, timeout=_KEYGEN_S, check=False
        )
    except FileNotFoundError as error:
        raise InvalidSpec(
            "grant", "ssh-keygen is missing at the server: apt-get install openssh-client"
        ) from error
    if done.returncode:
        raise InvalidSpec("grant", f"ssh-keygen: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
