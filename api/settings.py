"""How the server runs: where it listens and how much it accepts. Read once from the environment."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from api.connections import ConnectionLimits
from api.rates import RateLimits
from fleet.errors import InvalidSpec
from fleet.loopback import is_loopback
from fleet.releases import check_address
from fleet.settings import Settings as FleetSettings


@dataclass(frozen=True)
class Settings:
    """The server's settings; `port` 0 takes a free one. `fleet` is where the control plane keeps its state."""

    fleet: FleetSettings
    host: str = "127.0.0.1"
    port: int = 8000
    behind_tls_proxy: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    ready_file: Path | None = None
    access_log: bool = False
    max_body_bytes: int = 1 << 20
    max_batch_bytes: int = 32 << 20  # up to 10,000 jobs
    max_sync_bytes: int = 16 << 20  # up to 1024 attempts with a result of at most 64 KiB each, few at a time
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    rates: RateLimits = field(default_factory=RateLimits)
    public_url: str = ""

    @staticmethod
    def from_env(environ: Mapping[str, str]) -> Settings:
        """Read TINYFLEET_HOST, _PORT, _TLS_CERT, _TLS_KEY, _PUBLIC_URL and what `fleet.settings` reads."""
        return Settings(
            fleet=FleetSettings.from_env(environ),
            host=environ.get("TINYFLEET_HOST", "127.0.0.1"),
            port=_port(environ.get("TINYFLEET_PORT", "8000")),
            tls_cert=Path(environ["TINYFLEET_TLS_CERT"]) if environ.get("TINYFLEET_TLS_CERT") else None,
            tls_key=Path(environ["TINYFLEET_TLS_KEY"]) if environ.get("TINYFLEET_TLS_KEY") else None,
            public_url=checked_url(environ.get("TINYFLEET_PUBLIC_URL", "")),
        )

    @property
    def connection_limits(self) -> ConnectionLimits:
        """Behind a proxy every connection is the proxy's: it counts them by address, this server cannot."""
        return replace(self.connections, per_address=0) if self.behind_tls_proxy else self.connections

    def check_listening(self) -> None:
        """Refuse to offer tokens in clear text to a network, and a certificate that cannot be used. Raises
        InvalidSpec."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidSpec("--tls-cert", "goes with --tls-key: give both, or neither")
        if self.tls_cert is not None and self.tls_key is not None:
            _check_certificate(self.tls_cert, self.tls_key)
        elif not self.behind_tls_proxy and not is_loopback(self.host):
            raise InvalidSpec(
                "host",
                f"{self.host} is not a loopback address, and without TLS tokens would cross the network in clear "
                "text: give --tls-cert and --tls-key (tinyfleet ca makes them for a lab), listen on 127.0.0.1, or say "
                "--behind-tls-proxy when a proxy in front of it ends TLS",
            )


def _check_certificate(certificate: Path, key: Path) -> None:
    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        if not path.is_file():
            raise InvalidSpec(option, f"there is no file {path}")
    if key.stat().st_mode & 0o077:
        raise InvalidSpec("--tls-key", f"{key} can be read by others: chmod 600 it")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InvalidSpec(
            "--tls-cert", f"{certificate} and {key} are no certificate and its key: {error}"
        ) from error


def checked_url(text: str) -> str:
    """The address that nodes are given, without a slash at its end; empty when none is. InvalidSpec."""
    try:
        return check_address(text.rstrip("/")) if text else ""
    except InvalidSpec as error:
        raise InvalidSpec("--public-url", error.problem) from error


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise InvalidSpec("TINYFLEET_PORT", f"{text!r} is not a port: a number from 0 to 65535")
    return int(text)
