"""What sshd reads, as text: each account's keys and principals, and the drop-in. Pure: values in, texts out."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fleet.agents.root_logins import GROUP, Login, Logins

ZULU_SINCE = (9, 1)  # OpenSSH's expiry-time knew the machine's own time zone only before
_MADE = "# Made by the tinyfleet agent: what is changed here is undone.\n"


@dataclass(frozen=True)
class Layout:
    """Where the files are: all of them root's, none in anybody's home."""

    folder: Path

    @property
    def keys(self) -> Path:
        """A file for each account with the keys that it is let in with."""
        return self.folder / "keys"

    @property
    def principals(self) -> Path:
        """A file for each account with the certificates that it is let in with."""
        return self.folder / "principals"

    @property
    def closing(self) -> Path:
        """What opened accounts that could not be closed yet: ACCOUNT.NUMBER, each an account's keys as they were."""
        return self.folder / "closing"

    @property
    def user_ca(self) -> Path:
        """Whose certificates count."""
        return self.folder / "user-ca.pub"

    @property
    def revoked(self) -> Path:
        """The key revocation list."""
        return self.folder / "revoked.krl"

    @property
    def host_certificate(self) -> Path:
        """This node's own."""
        return self.folder / "host-cert.pub"

    @property
    def spec(self) -> Path:
        """What was told last: a node that starts without a connection still ends what is over."""
        return self.folder / "spec.json"


def by_account(grants: Iterable[Login]) -> dict[str, list[Login]]:
    """Grants under their accounts, in order of id."""
    found: dict[str, list[Login]] = {}
    for grant in sorted(grants, key=lambda each: each.grant_id):
        found.setdefault(grant.account, []).append(grant)
    return found


def key_lines(grants: Iterable[Login], version: tuple[int, int]) -> str:
    """An account's authorized keys: one line a grant, always, each with its end: sshd keeps that without anybody."""
    return "".join(
        f"{_options(grant, version)} {grant.key} tinyfleet-{grant.principal}\n" for grant in grants
    )


def grants_in(text: str) -> set[int]:
    """The ids of the grants that an account's keys are of."""
    return {int(each) for each in re.findall(r" tinyfleet-grant-([0-9]+)$", text, re.MULTILINE)}


def keys_in(text: str) -> set[str]:
    """The keys that an account's keys are, each TYPE BASE64."""
    return {" ".join(line.split(" ")[-3:-1]) for line in text.splitlines()}


def principal_lines(grants: Iterable[Login], version: tuple[int, int]) -> str:
    """An account's principals: a certificate ends with its grant, however long it was made out for."""
    return "".join(f"{_options(grant, version)} {grant.principal}\n" for grant in grants)


def _options(grant: Login, version: tuple[int, int]) -> str:
    return f'restrict,pty,expiry-time="{moment(grant.until, version)}"'


def moment(until: float, version: tuple[int, int]) -> str:
    """An end as OpenSSH of this version reads it; whole seconds, never later than `until`."""
    if version >= ZULU_SINCE:
        return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(int(until)))
    return time.strftime("%Y%m%d%H%M%S", time.localtime(int(until)))


def drop_in(spec: Logins, layout: Layout, group: str = GROUP) -> str:
    """sshd's drop-in: about the contributors' group alone, but for the host's certificate.

    The user's own authorized_keys is not consulted, nor anything else that a contributor could write.
    """
    host = f"HostCertificate {layout.host_certificate}\n" if spec.host_certificate else ""
    certificates = f"    TrustedUserCAKeys {layout.user_ca}\n" if spec.user_ca else ""
    revoked = f"    RevokedKeys {layout.revoked}\n" if spec.revoked is not None else ""
    return (
        f"{_MADE}{host}Match Group {group}\n"
        f"    AuthorizedKeysFile {layout.keys}/%u\n"
        "    AuthorizedKeysCommand none\n"
        f"    AuthorizedPrincipalsFile {layout.principals}/%u\n"
        "    AuthorizedPrincipalsCommand none\n"
        f"{certificates or '    TrustedUserCAKeys none' + chr(10)}"
        f"{revoked}"
        "    AuthenticationMethods publickey\n"
        "    PasswordAuthentication no\n"
        "    KbdInteractiveAuthentication no\n"
        "    HostbasedAuthentication no\n"
        "    PermitUserRC no\n"
        "    AllowAgentForwarding no\n"
        "    AllowTcpForwarding no\n"
        "    AllowStreamLocalForwarding no\n"
        "    X11Forwarding no\n"
        "    PermitTunnel no\n"
        "    ClientAliveInterval 30\n"
        "    ClientAliveCountMax 4\n"
        "Match all\n"
    )
