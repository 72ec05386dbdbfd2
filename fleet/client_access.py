"""The SDK's calls about logins: SSH keys, grants, and how nodes are reached."""

from __future__ import annotations

from fleet.client_wire import Connection, given, new_key
from fleet.resources import Page
from fleet.resources_access import Grant, ImportedKeys, SshCertificate, SshHost, SshKey


class AccessCalls(Connection):
    """Logins."""

    def add_ssh_key(self, public_key: str, label: str = "") -> SshKey:
        """Keep a public key of one's own: the text of a .pub file."""
        body = {"public_key": public_key, "label": label}
        return self._post(SshKey, "/v1/ssh-keys", body, new_key())

    def import_ssh_keys(self, forge: str, user: str) -> ImportedKeys:
        """Take over one's keys from a forge (github, gitlab, codeberg, sourcehut or a host's name), once."""
        return self._post(ImportedKeys, "/v1/ssh-keys/import", {"forge": forge, "user": user})

    def ssh_keys(self, after: int | None = None, limit: int | None = None) -> Page[SshKey]:
        """One's keys, or everybody's for who decides about logins."""
        return self._get(Page[SshKey], "/v1/ssh-keys", given(after=after, limit=limit))

    def remove_ssh_key(self, key_id: int) -> SshKey:
        """Remove a key; its logins end."""
        return SshKey.model_validate(self._send("DELETE", f"/v1/ssh-keys/{key_id}").json())

    def request_grant(
        self,
        reason: str,
        *,
        pool: str | None = None,
        node: int | str | None = None,
        key: int | None = None,
        duration_s: float | None = None,
    ) -> Grant:
        """Ask for a login on a pool or a node."""
        body = {"reason": reason, **given(pool=pool, node=node, key=key, duration_s=duration_s)}
        return self._post(Grant, "/v1/grants", body, new_key())

    def grants(
        self, state: str | None = None, after: int | None = None, limit: int | None = None
    ) -> Page[Grant]:
        """One's logins, or everybody's for who decides about them."""
        return self._get(Page[Grant], "/v1/grants", given(state=state, after=after, limit=limit))

    def grant(self, grant_id: int, wait: float | None = None, seen: int | None = None) -> Grant:
        """A login; with `wait`, when its version is beyond `seen`, or after so many seconds."""
        return self._get(Grant, f"/v1/grants/{grant_id}", given(wait=wait, seen=seen))

    def approve_grant(self, grant_id: int, duration_s: float | None = None) -> Grant:
        """Grant what was asked for, or less."""
        return self._post(Grant, f"/v1/grants/{grant_id}/approve", given(duration_s=duration_s))

    def deny_grant(self, grant_id: int, reason: str) -> Grant:
        """Refuse what was asked for."""
        return self._post(Grant, f"/v1/grants/{grant_id}/deny", {"reason": reason})

    def revoke_grant(self, grant_id: int, reason: str) -> Grant:
        """End a login, or take a request back."""
        return self._post(Grant, f"/v1/grants/{grant_id}/revoke", {"reason": reason})

    def certify_grant(self, grant_id: int, ttl_s: float | None = None) -> SshCertificate:
        """A certificate for the key of a login, where the fleet has an SSH authority."""
        return self._post(SshCertificate, f"/v1/grants/{grant_id}/certificate", given(ttl_s=ttl_s))

    def ssh_hosts(self, after: int | None = None, limit: int | None = None) -> Page[SshHost]:
        """How nodes are reached by ssh, with their host keys."""
        return self._get(Page[SshHost], "/v1/ssh/hosts", given(after=after, limit=limit))

    def ssh_host(self, node_id: int) -> SshHost:
        """How one node is reached by ssh."""
        return self._get(SshHost, f"/v1/ssh/hosts/{node_id}")
