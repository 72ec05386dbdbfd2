"""Turn logins on and off on an installed node: what the agent is told, and what root's part needs beyond its unit. The
standard library alone: the installer does it by root's part.

As installed, root's part can write nothing outside its own folders and has no network. To make accounts, to write what
sshd reads and to see whether sshd answers, it needs the more that the drop-in below names, on nodes where an operator
said so.
"""

from __future__ import annotations

import re
from pathlib import Path

from fleet.agents.durable import write_bytes
from fleet.agents.root_access import AccessRoot, Where
from fleet.agents.root_logins import Logins
from fleet.agents.root_sshd import Sshd

UNIT = "etc/systemd/system/tinyfleet-root.service.d/logins.conf"
SETTINGS = "etc/tinyfleet/local.env"
_NAMED = "TINYFLEET_SSH_ADDRESS="
_OURS = re.compile(r"^TINYFLEET_SSH(?:_ADDRESS)?=")
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}")
DROP_IN = """\
# Made by `tinyfleet node logins on`: root's part makes accounts and writes what sshd reads.
[Service]
EnvironmentFile=-/etc/tinyfleet/local.env
# Setuid to end a person's processes as that person; ptrace to tell sshd's processes from others of the same name.
CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_SYS_PTRACE CAP_AUDIT_WRITE
# The folders above those of cron, at and lingering: they may be made later.
ReadWritePaths=/etc /run /home /var/spool /var/lib/systemd
ProtectHome=no
# To this machine's own sshd and nowhere else.
PrivateNetwork=no
IPAddressAllow=localhost
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK
"""


class LoginsProblem(Exception):
    """Logins cannot be turned on or off here; the message says what to do."""


def turn_on(folder: Path, address: str) -> list[Path]:
    """Write the drop-in and the settings below `folder` (/ but in tests); what was changed. An address that was given
    before stays without another. LoginsProblem."""
    if address and not _ADDRESS.fullmatch(address):
        raise LoginsProblem(f"--address {address!r}: give the name or address that people connect to")
    if not (folder / Sshd.program.relative_to("/")).exists():
        raise LoginsProblem("there is no sshd here: apt-get install openssh-server")
    if not (folder / "etc/tinyfleet").is_dir():
        raise LoginsProblem("the agent is not installed here: see https://FLEET/install.sh")
    known = [line for line in _lines(folder / SETTINGS) if line.startswith(_NAMED)]
    named = [f"{_NAMED}{address}"] if address else known
    return [*_put(folder / UNIT, DROP_IN), *_settings(folder, ["TINYFLEET_SSH=on", *named])]


def turn_off(folder: Path, where: Where) -> list[Path]:
    """Close every contributor's account, give sshd back as it was, and take away what `turn_on` wrote. LoginsProblem when
    somebody could not be ended; nothing is taken away then."""
    if where.folder.exists():
        problem = AccessRoot(where).apply(Logins()).problem
        if problem and where.sshd.present:
            raise LoginsProblem(f"{problem}; mend that, and turn logins off again")
        where.sshd.remove()
    unit = folder / UNIT
    changed = [unit] if unit.exists() else []
    unit.unlink(missing_ok=True)
    return [*changed, *_settings(folder, [])]


def _settings(folder: Path, lines: list[str]) -> list[Path]:
    """Our lines in the node's settings, in place of those before; what others wrote stays."""
    path = folder / SETTINGS
    kept = [line for line in _lines(path) if not _OURS.match(line)]
    if not path.exists() and not lines:
        return []
    return _put(path, "".join(f"{line}\n" for line in [*kept, *lines]))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _put(path: Path, text: str) -> list[Path]:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return []
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_bytes(path, text.encode(), mode=0o644, durable=True)
    return [path]
