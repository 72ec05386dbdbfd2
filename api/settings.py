"""How the server runs: where it listens and how much it accepts. Read once from the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import InvalidSpec
from fleet.settings import Settings as FleetSettings


@dataclass(frozen=True)
class Settings:
    """The server's settings; `port` 0 takes a free one. `fleet` is where the control plane keeps its state."""

    fleet: FleetSettings
    host: str = "127.0.0.1"
    port: int = 8000
    insecure_listen: bool = False
    ready_file: Path | None = None
    access_log: bool = False
    max_body_bytes: int = 1 << 20
    max_sync_bytes: int = 16 << 20  # up to 1024 attempts with a result of at most 64 KiB each, few at a time

    @staticmethod
    def from_env(environ: Mapping[str, str]) -> Settings:
        """Read TINYFLEET_HOST, TINYFLEET_PORT and what `fleet.settings` reads."""
        return Settings(
            fleet=FleetSettings.from_env(environ),
            host=environ.get("TINYFLEET_HOST", "127.0.0.1"),
            port=_port(environ.get("TINYFLEET_PORT", "8000")),
        )

    def check_listening(self) -> None:
        """Refuse to offer tokens in clear text to a network. Raises InvalidSpec."""
        if not self.insecure_listen and not is_loopback(self.host):
            raise InvalidSpec(
                "host",
                f"{self.host} is not a loopback address, and this server has no TLS yet: tokens would cross the "
                "network in clear text. Listen on 127.0.0.1 behind a TLS proxy, or accept that with "
                "--insecure-listen",
            )


def is_loopback(host: str) -> bool:
    """True for localhost and loopback addresses; a name that has to be looked up is not trusted to be one."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise InvalidSpec("TINYFLEET_PORT", f"{text!r} is not a port: a number from 0 to 65535")
    return int(text)
