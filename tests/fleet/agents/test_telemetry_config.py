"""The telemetry's file: what it may say, and that what is wrong with it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.agents.probes.pdu import PROFILES
from fleet.agents.telemetry_config import BadConfig, Config, load, parse

WHOLE = """
[redfish]
url = "https://10.0.3.7"
netrc = "/etc/tinyfleet/bmc.netrc"

[ipmi]
remote = ["-I", "lanplus"]

[[pdu]]
name = "a"
host = "10.0.3.9"
community_file = "{community}"
profile = "apc"
node = "input"

[[pdu]]
name = "b"
host = "10.0.3.10"
port = 1161
community_file = "{community}"
points = [{{ oid = ".1.3.6.1", metric = "power_watts", scale = 0.1, input = "outlet 7" }}]
"""


@pytest.fixture
def community(tmp_path: Path) -> Path:
    path = tmp_path / "community"
    path.write_text("rack3\n")
    return path


def test_all_that_can_be_said_is_read(tmp_path: Path, community: Path) -> None:
    path = tmp_path / "telemetry.toml"
    path.write_text(WHOLE.format(community=community))
    found = load(path)
    assert found.redfish is not None
    assert (found.redfish.url, found.redfish.ca_file, found.ipmi) == (
        "https://10.0.3.7",
        "",
        ("-I", "lanplus"),
    )
    first, second = found.pdus
    assert (first.community, first.points, first.node, first.port) == ("rack3", PROFILES["apc"], "input", 161)
    assert (second.points[0].oid, second.points[0].scale, second.port) == ("1.3.6.1", 0.1, 1161)


def test_no_file_means_nothing_more() -> None:
    assert load(Path("/nonexistent/telemetry.toml")) == Config()


PDU = '[[pdu]]\nname = "a"\nhost = "h"\ncommunity_file = "{community}"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[redfish", "is no TOML"),
        ("[redfsh]\n", "the file has 'redfsh'; there are redfish, ipmi, pdu"),
        ("redfish = 5", r"\[redfish\] is no table"),
        ("[redfish]\n", r"\[redfish\]: url is None; give a text"),
        ('[redfish]\nurl = "http://10.0.0.1"', "its password would be read on the way"),
        ('[redfish]\nurl = "https://b"\ninsecure = true', r"\[redfish\] has 'insecure'"),
        ("[ipmi]\nremote = 5", "give a list of texts"),
        ("[pdu]\n", r"write \[\[pdu\]\], once for each"),
        (PDU, "it reads nothing; give a profile or points"),
        (PDU + 'profile = "acme"', "profile is 'acme'; there are apc"),
        (PDU + 'profile = "apc"\nport = 70000', "port is 70000; give 1 to 65535"),
        (PDU.replace("{community}", "/nonexistent"), "give a profile or points"),
        (
            PDU.replace("{community}", "/nonexistent") + 'profile = "apc"',
            "community_file /nonexistent cannot be read",
        ),
        (PDU + 'points = [{ oid = "x.y", metric = "power_watts", input = "a" }]', "oid is 'x.y'"),
        (
            PDU + 'points = [{ oid = "1.3", metric = "watts", input = "a" }]',
            "metric is 'watts'; there are current",
        ),
        (
            PDU + 'points = [{ oid = "1.3", metric = "power_watts", scale = 0, input = "a" }]',
            "scale is 0; give",
        ),
        (PDU + 'points = [{ oid = "1.3", metric = "power_watts" }]', "points: input is None"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str, community: Path) -> None:
    with pytest.raises(BadConfig, match=said):
        parse(text.replace("{community}", str(community)), Path("telemetry.toml"))
