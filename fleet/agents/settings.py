"""The agent's settings: from the command line, else the environment. Secrets come from a file or the environment."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from fleet.agents.attempts import Limits
from fleet.agents.telemetry_config import CONFIG, BadConfig, load
from fleet.agents.walls.policy import chosen


class SettingsError(Exception):
    """A setting is missing or refused; the message names it and the fix."""


@dataclass(frozen=True)
class Settings:
    """Everything the agent is told by its operator. `setup` names a function that changes the tasks (tests)."""

    server: str
    state: Path
    name: str
    join_token: str = field(default="", repr=False)
    ca_file: Path | None = None
    ca_sha256: str = ""
    setup: str = ""
    limits: Limits = field(default_factory=Limits)
    start_s: float = 30.0
    blob_cache_bytes: int = 1 << 30
    data_bytes: int = 64 << 30
    walls: str = "all"
    network: bool = False
    containers: bool = True
    image_bytes: int = 64 << 30
    pull_images: bool = False
    telemetry: bool = True
    metrics_listen: str = ""
    telemetry_config: Path = CONFIG


def settings(
    environ: Mapping[str, str],
    *,
    server: str | None = None,
    state: Path | None = None,
    name: str | None = None,
    join_token_file: Path | None = None,
    setup: str | None = None,
    ca_file: Path | None = None,
    ca_sha256: str | None = None,
    walls: str | None = None,
    job_network: bool = False,
    pull_images: bool = False,
    metrics_listen: str | None = None,
) -> Settings:
    """Settings from options, where given, and TINYFLEET_URL, TINYFLEET_STATE, TINYFLEET_NODE_NAME otherwise.

    TINYFLEET_START_S is how long an attempt may take to start before it counts as failed by the machine;
    TINYFLEET_DATA_BYTES is how much of data sets is kept, TINYFLEET_IMAGE_BYTES how much of unpacked images;
    TINYFLEET_WALLS which walls are meant; TINYFLEET_MEMORY_BYTES and TINYFLEET_PROCESSES what an attempt may use;
    TINYFLEET_CONTAINERS=off that no command runs in one; TINYFLEET_TELEMETRY=off that nothing is measured; TINYFLEET_METRICS_LISTEN where /metrics is served beside the push;
    TINYFLEET_TELEMETRY_CONFIG the file that names BMCs and PDUs.
    """
    url = server or environ.get("TINYFLEET_URL", "")
    if not url:
        raise SettingsError("no server: give --server URL or set TINYFLEET_URL")
    return Settings(
        server=checked_url(url),
        state=(state or Path(environ.get("TINYFLEET_STATE", "/var/lib/tinyfleet"))).absolute(),
        name=_name(name or environ.get("TINYFLEET_NODE_NAME") or socket.gethostname().split(".")[0]),
        join_token=_join_token(environ, join_token_file),
        setup=setup or "",
        ca_file=ca_file or _path(environ, "TINYFLEET_CA_FILE"),
        ca_sha256=_fingerprint(ca_sha256 or environ.get("TINYFLEET_CA_SHA256", "")),
        start_s=_seconds(environ, "TINYFLEET_START_S", 30.0),
        limits=_limits(environ),
        data_bytes=_count(environ, "TINYFLEET_DATA_BYTES", Settings.data_bytes),
        network=job_network or environ.get("TINYFLEET_JOB_NETWORK", "") in ("1", "yes", "true"),
        containers=_switch(environ, "TINYFLEET_CONTAINERS"),
        image_bytes=_count(environ, "TINYFLEET_IMAGE_BYTES", Settings.image_bytes),
        pull_images=pull_images or environ.get("TINYFLEET_PULL_IMAGES", "") in ("1", "yes", "true"),
        walls=_walls(walls or environ.get("TINYFLEET_WALLS") or "all"),
        telemetry=_switch(environ, "TINYFLEET_TELEMETRY"),
        metrics_listen=_address(metrics_listen or environ.get("TINYFLEET_METRICS_LISTEN", "")),
        telemetry_config=_telemetry(environ),
    )


def _telemetry(environ: Mapping[str, str]) -> Path:
    """The telemetry's file, looked through: its process would only say in a log what is wrong with it."""
    path = _path(environ, "TINYFLEET_TELEMETRY_CONFIG") or CONFIG
    try:
        load(path)
    except BadConfig as error:
        raise SettingsError(f"{error} (the file is TINYFLEET_TELEMETRY_CONFIG, else {CONFIG})") from error
    return path


def _switch(environ: Mapping[str, str], name: str) -> bool:
    """On, unless it says off."""
    text = environ.get(name, "on")
    if text not in ("on", "off"):
        raise SettingsError(f"{name} is {text!r}; give on or off")
    return text == "on"


def _address(text: str) -> str:
    """host:port, or nothing."""
    host, _, port = text.rpartition(":")
    if text and not (host and port.isdecimal() and int(port) < 65536):
        raise SettingsError(
            f"--metrics-listen {text!r} is no address; give host:port, such as 127.0.0.1:9400"
        )
    return text


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    return Path(environ[name]) if environ.get(name) else None


def _fingerprint(text: str) -> str:
    """A sha256 as people write it: colons and capitals are allowed; empty when none is given."""
    plain = text.replace(":", "").lower()
    if text and not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise SettingsError(
            f"--ca-sha256 {text!r} is no sha256: give the 64 hex digits that `tinyfleet ca init` printed"
        )
    return plain


def _name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        raise SettingsError(
            f"a node cannot be called {name!r}: give --name 1 to 63 of letters, digits, '.', '_' and '-'"
        )
    return name


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 < value < 3600:
        raise SettingsError(f"{name} is {text!r}; give seconds, more than 0 and less than 3600")
    return value


def _limits(environ: Mapping[str, str]) -> Limits:
    return Limits(
        memory_bytes=_count(environ, "TINYFLEET_MEMORY_BYTES", Limits.memory_bytes),
        processes=_count(environ, "TINYFLEET_PROCESSES", Limits.processes),
        folder_bytes=_count(environ, "TINYFLEET_FOLDER_BYTES", Limits.folder_bytes),
        folder_files=_count(environ, "TINYFLEET_FOLDER_FILES", Limits.folder_files),
    )


def _count(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or not 0 < int(text) < 1 << 53:
        raise SettingsError(f"{name} is {text!r}; give a whole number, more than 0")
    return int(text)


def _walls(text: str) -> str:
    try:
        chosen(text)
    except ValueError as error:
        raise SettingsError(f"--walls: {error}") from error
    return text


def checked_url(url: str) -> str:
    """The server's URL without a trailing slash. Refuses plain HTTP to anything but loopback: the token would be read."""
    parts = _parts(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"server {url!r} is not an http:// or https:// URL")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise SettingsError(
            f"server {url} would be spoken to in plain HTTP, which anybody on the way can read; use https://"
        )
    return url.rstrip("/")


def _parts(url: str) -> SplitResult | None:
    """None for a port that is no number and for brackets around no address."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _join_token(environ: Mapping[str, str], file: Path | None) -> str:
    """Never from argv, which every user of the machine can read."""
    if file is None:
        return environ.get("TINYFLEET_JOIN_TOKEN", "").strip()
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""  # an enrolled node needs none; one that is not says so when it enrols
    except OSError as error:
        raise SettingsError(f"--join-token-file {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"--join-token-file {file}: is no text; is it the right file?") from error
