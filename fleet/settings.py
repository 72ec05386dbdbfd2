"""Settings of the control plane, read once from the environment and passed by value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from fleet.errors import InvalidSpec
from fleet.retention import LEAST_GRACE_S, Retention


@dataclass(frozen=True)
class Timings:
    """Every interval of the fleet, in seconds; tests make them short.

    A node that has not synced is late after `late_s`, unreachable after `unreachable_s` and lost after
    `lost_s`; only a lost node's leases are given to others.
    """

    tick_s: float = 0.5
    poll_s: float = 5.0  # how long an agent's poll is parked: three missed ones make a node late
    late_s: float = 15.0
    unreachable_s: float = 30.0
    lease_s: float = 60.0  # an agent that cannot sync for so long kills its own work
    metrics_s: float = 10.0  # how often a node pushes its metrics; twice as old, they are stale
    grace_s: float = 30.0  # on top of the lease, before the control plane gives the work away

    @property
    def stale_s(self) -> float:
        """Age from which on a node's metrics are served no more."""
        return 2 * self.metrics_s

    @property
    def lost_s(self) -> float:
        """Silence after which a node is lost."""
        return self.lease_s + self.grace_s


@dataclass(frozen=True)
class Settings:
    """Where the control plane keeps its state, and its limits."""

    data: Path
    database_url: str
    max_blob_bytes: int = 64 << 20
    timings: Timings = field(default_factory=Timings)
    retention: Retention = field(default_factory=Retention)

    @staticmethod
    def from_env(environ: Mapping[str, str]) -> Settings:
        """Read TINYFLEET_DATA, _DATABASE_URL, _MAX_BLOB_BYTES, each of Timings (TINYFLEET_LEASE_S, …) and of
        Retention (TINYFLEET_KEEP_EVENTS_S, …; TINYFLEET_KEEP_EVERY_S between two passes)."""
        data = Path(environ.get("TINYFLEET_DATA", "tinyfleet-data")).absolute()
        return Settings(
            data=data,
            database_url=environ.get("TINYFLEET_DATABASE_URL") or f"sqlite:///{data / 'fleet.db'}",
            max_blob_bytes=int(_number(environ, "TINYFLEET_MAX_BLOB_BYTES", 64 << 20)),
            timings=_timings(environ),
            retention=_retention(environ),
        )

    @property
    def blobs(self) -> Path:
        """The folder of content-addressed files."""
        return self.data / "blobs"

    @property
    def audit_key_file(self) -> Path:
        """The key of the chain over the audit, mode 0600."""
        return self.data / "audit-key"

    @property
    def secret_keys_file(self) -> Path:
        """The keys of the secrets at rest, mode 0600, unless the environment has them."""
        return self.data / "secret-keys"

    @property
    def ssh_authority_file(self) -> Path:
        """The private half of the SSH authority, mode 0600, where there is one."""
        return self.data / "ssh-authority"

    @property
    def releases(self) -> Path:
        """The releases that nodes install, a folder each."""
        return self.data / "releases"

    @property
    def anchors_file(self) -> Path:
        """The hourly anchors of that chain, a line each."""
        return self.data / "audit-anchors.jsonl"

    @property
    def admin_token_file(self) -> Path:
        """Where the first start leaves the administrator's token, mode 0600."""
        return self.data / "admin-token"


def _timings(environ: Mapping[str, str]) -> Timings:
    default = Timings()
    names = [each.name for each in fields(Timings)]
    return Timings(
        **{name: _number(environ, f"TINYFLEET_{name.upper()}", getattr(default, name)) for name in names}
    )


def _retention(environ: Mapping[str, str]) -> Retention:
    default = Retention()
    kept = {
        each.name: _number(environ, f"TINYFLEET_KEEP_{each.name.upper()}", getattr(default, each.name))
        for each in fields(Retention)
    }
    if kept["blobs_s"] < LEAST_GRACE_S:
        raise InvalidSpec("TINYFLEET_KEEP_BLOBS_S", f"must be at least {LEAST_GRACE_S:.0f} seconds")
    return Retention(**kept)


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError as error:
        raise InvalidSpec(name, f"{text!r} is not a number of seconds or bytes") from error
    if not 0 < value < float("inf"):
        raise InvalidSpec(name, f"{text!r} must be greater than zero and finite")
    return value
