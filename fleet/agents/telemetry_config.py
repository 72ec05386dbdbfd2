"""What the telemetry cannot find by itself: a BMC over Redfish or from afar, and PDUs. A TOML file; secrets in files of their own.

[redfish]
url = "https://10.0.3.7"
netrc = "/etc/tinyfleet/bmc.netrc"      # machine 10.0.3.7 login … password …
ca_file = "/etc/tinyfleet/bmc.pem"

[ipmi]
remote = ["-I", "lanplus", "-H", "10.0.3.7", "-U", "reader", "-f", "/etc/tinyfleet/bmc.password"]

[[pdu]]
name = "rack-3-a"
host = "10.0.3.9"
community_file = "/etc/tinyfleet/pdu.community"
profile = "apc"                         # or points = [{ oid = "1.3…", metric = "power_watts", scale = 1, input = "outlet 7" }]
node = "input"                          # the input or outlet that feeds this node alone
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fleet.agents.probes.pdu import METRICS, PROFILES, Outlet, Point
from fleet.agents.probes.redfish import Bmc

CONFIG = Path("/etc/tinyfleet/telemetry.toml")


class BadConfig(Exception):
    """The file says something that cannot be; the message names the field and the fix."""


class Config(NamedTuple):
    """What there is beyond the machine itself."""

    redfish: Bmc | None = None
    ipmi: tuple[str, ...] = ()
    pdus: tuple[Outlet, ...] = ()


def load(path: Path) -> Config:
    """The file's content; nothing when there is no file. Raises BadConfig."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} cannot be read: {error}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """The same of a text. Raises BadConfig."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{path} is no TOML: {error}") from error
    _known(document, "the file", ("redfish", "ipmi", "pdu"))
    redfish, ipmi = document.get("redfish"), document.get("ipmi", {})
    _known(ipmi, "[ipmi]", ("remote",))
    pdus = document.get("pdu", [])
    if not isinstance(pdus, list):
        raise BadConfig("[pdu] is one table; write [[pdu]], once for each")
    return Config(
        redfish=None if redfish is None else _bmc(redfish),
        ipmi=_words(ipmi.get("remote", []), "[ipmi] remote"),
        pdus=tuple(_outlet(each, place) for place, each in enumerate(pdus, 1)),
    )


def _bmc(table: Mapping[str, Any]) -> Bmc:
    _known(table, "[redfish]", ("url", "netrc", "ca_file"))
    url = _text(table, "url", "[redfish]")
    if not url.startswith("https://") and not url.startswith(("http://127.0.0.1:", "http://localhost:")):
        raise BadConfig(f"[redfish] url is {url!r}: give https://, its password would be read on the way")
    return Bmc(url, _text(table, "netrc", "[redfish]", ""), _text(table, "ca_file", "[redfish]", ""))


def _outlet(table: Mapping[str, Any], place: int) -> Outlet:
    where = f"[[pdu]] number {place}"
    _known(table, where, ("name", "host", "port", "community_file", "profile", "points", "node"))
    profile, given = table.get("profile"), table.get("points", [])
    if profile is not None and profile not in PROFILES:
        raise BadConfig(
            f"{where}: profile is {profile!r}; there are {', '.join(sorted(PROFILES))}, or give points"
        )
    points = (*PROFILES.get(profile or "", ()), *(_point(each, where) for each in given))
    if not points:
        raise BadConfig(f"{where}: it reads nothing; give a profile or points")
    port = table.get("port", 161)
    if not isinstance(port, int) or not 0 < port < 65536:
        raise BadConfig(f"{where}: port is {port!r}; give 1 to 65535")
    file = Path(_text(table, "community_file", where))
    try:
        community = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{where}: community_file {file} cannot be read: {error}") from error
    name, host = _text(table, "name", where), _text(table, "host", where)
    return Outlet(name, host, community, points, port, _text(table, "node", where, ""))


def _point(table: Mapping[str, Any], where: str) -> Point:
    where = f"{where}, points"
    _known(table, where, ("oid", "metric", "scale", "input"))
    oid, metric, scale = _text(table, "oid", where), _text(table, "metric", where), table.get("scale", 1)
    numbers = oid.strip(".").split(".")
    if len(numbers) < 2 or not all(each.isdecimal() for each in numbers):
        raise BadConfig(f"{where}: oid is {oid!r}; give numbers with dots between, such as 1.3.6.1.4.1.318…")
    if metric not in METRICS:
        raise BadConfig(f"{where}: metric is {metric!r}; there are {', '.join(METRICS)}")
    if isinstance(scale, bool) or not isinstance(scale, int | float) or scale <= 0:
        raise BadConfig(
            f"{where}: scale is {scale!r}; give what to multiply the PDU's number by, more than 0"
        )
    return Point(oid.strip("."), metric, float(scale), _text(table, "input", where))


def _known(table: Any, where: str, names: tuple[str, ...]) -> None:
    if not isinstance(table, Mapping):
        raise BadConfig(f"{where} is no table")
    unknown = sorted(set(table) - set(names))
    if unknown:
        raise BadConfig(f"{where} has {unknown[0]!r}; there are {', '.join(names)}")


def _text(table: Mapping[str, Any], name: str, where: str, default: str | None = None) -> str:
    value = table.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise BadConfig(f"{where}: {name} is {value!r}; give a text")
    return value


def _words(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadConfig(f"{where} is {value!r}; give a list of texts, the arguments of ipmitool")
    return tuple(value)
