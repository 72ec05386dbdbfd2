"""What the API answers about logins: keys, grants, how a node is reached by ssh."""

from __future__ import annotations

from pydantic import Field

from fleet.resources import Resource, Timestamp


class SshKey(Resource):
    """A person's public key."""

    id: int
    person: str
    tenant: str
    type: str = Field(examples=["ssh-ed25519"])
    bits: int
    fingerprint: str = Field(examples=["SHA256:Ix+KFyBv8dqJV0T8Uk0kXoQ0JbQXq2q4yv0v3S3dXgA"])
    line: str = Field(description="type and base64, as nodes are given it")
    label: str = ""
    source: str = Field(default="", description="where it was imported from; empty: sent by its owner")
    created_at: Timestamp


class ImportedKeys(Resource):
    """What came of an import."""

    source: str
    added: list[SshKey]
    refused: list[str] = Field(description="why each of the others is not kept")


class GrantPlace(Resource):
    """How a grant stands on one node."""

    node_id: int
    node: str
    asked_at: Timestamp
    applied_at: Timestamp | None = Field(
        default=None, description="when the node said that it lets the key in"
    )
    end_asked_at: Timestamp | None = None
    gone_at: Timestamp | None = Field(
        default=None, description="when the node said that the key is out and no session is left"
    )
    gone_after_s: float | None = None
    ssh: str = Field(default="", description="the command that logs in, when the node lets the key in")
    problem: str = Field(default="", description="what the node could not do")


class Grant(Resource):
    """A login: a person's key on a node or a pool, until a moment."""

    id: int
    person: str
    tenant: str
    account: str = Field(description="the person's unix account, the same on every node")
    key_id: int
    key: str = Field(description="the key's fingerprint")
    node: str | None = None
    pool: str | None = None
    state: str = Field(description="requested, denied, active, revoking, revoked or expired")
    reason: str
    duration_s: float
    requested_at: Timestamp
    decided_at: Timestamp | None = None
    decided_by: str | None = None
    until: Timestamp | None = None
    ended_by: str | None = None
    end_reason: str = ""
    version: int = Field(description="grows with whatever happens to it: give it as `seen` to wait for more")
    nodes: list[GrantPlace]


class SshCertificate(Resource):
    """A certificate for a grant's key: put it beside the key, as NAME-cert.pub."""

    certificate: str
    serial: int
    until: Timestamp


class SshHost(Resource):
    """How a node is reached by ssh, and what proves that it is that node."""

    node_id: int
    node: str
    address: str
    port: int
    user: str | None = Field(
        default=None, description="the asker's account, where a grant of theirs is in force"
    )
    alias: str = Field(description="ssh -o HostKeyAlias: what the node is called in known_hosts")
    host_keys: list[str]
    authority: str | None = Field(default=None, description="the SSH authority that certifies nodes")
    known_hosts: list[str] = Field(description="lines for a known_hosts file")
    problem: str = ""
