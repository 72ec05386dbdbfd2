"""Power of whole nodes: BMCs over IPMI and Redfish, PDUs over SNMP, RAPL; real far ends where there are any."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from fleet.agents.probes import ipmi, redfish, snmp
from fleet.agents.probes.commands import Failed, run
from fleet.agents.probes.ipmi import Ipmi
from fleet.agents.probes.pdu import PROFILES, Outlet, Pdu, Point, parse
from fleet.agents.probes.rapl import Rapl, since
from fleet.agents.probes.redfish import Bmc, Redfish
from tests.fleet.agents.probes import box, peers
from tests.fleet.agents.probes.reading import value
from tests.fleet.agents.probes.tools import Tools, recorded


def remote(port: int, folder: Path) -> tuple[str, ...]:
    """How ipmitool reaches the simulator, its password in a file."""
    (folder / "password").write_text("secret\n")
    words = ("-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", str(port), "-U", "reader")
    return (*words, "-f", str(folder / "password"))


def test_a_bmc_measures_its_node(tmp_path: Path) -> None:
    with peers.bmc(tmp_path / "bmc") as port:
        probe = Ipmi(tmp_path, remote=remote(port, tmp_path))
        assert value(probe.read(*probe.parts()), "node_power_watts", source="ipmi") == 742


def test_a_bmc_that_measures_nothing_is_a_failure_and_no_zero(tmp_path: Path) -> None:
    with peers.bmc(tmp_path / "bmc", measures=False) as port:
        probe = Ipmi(tmp_path, remote=remote(port, tmp_path))
        with pytest.raises(Failed, match="DCMI request failed"):
            probe.read("dcmi")


def test_ipmitools_text_is_read_when_the_reading_is_activated() -> None:
    text = recorded("ipmi-dcmi.txt").decode()
    assert value(ipmi.parse(text), "node_power_watts") == 742
    assert ipmi.parse(text.replace("742", "0").replace(" activated", " deactivated")) == []
    assert ipmi.parse("") == []
    with pytest.raises(Failed, match="it says why"):
        Ipmi(Path("/"), Tools({"ipmitool": (1, b"")})).read("dcmi")


def test_a_bmc_is_looked_for_where_the_kernel_shows_it(tmp_path: Path) -> None:
    assert Ipmi(tmp_path).parts() == ()
    box.write(tmp_path, {"dev/ipmi0": ""})
    assert Ipmi(tmp_path).parts() == ("dcmi",)


def mockup(folder: Path, power: bytes) -> Path:
    """A Redfish service of two chassis, of which one has power."""
    chassis = [{"@odata.id": f"/redfish/v1/Chassis/{name}"} for name in ("Box", "Shelf")]
    box.write(folder, {"Chassis/index.json": json.dumps({"Members": chassis})})
    box.write(folder, {"Chassis/Box/Power/index.json": power})
    return folder


def test_redfish_says_the_power_of_a_node_and_its_supplies(tmp_path: Path) -> None:
    with peers.redfish(mockup(tmp_path, recorded("redfish-power.json"))) as url:
        probe = Redfish(Bmc(url))
        assert probe.parts() == ("/redfish/v1/Chassis/Box", "/redfish/v1/Chassis/Shelf")
        found = probe.read("/redfish/v1/Chassis/Box")
        with pytest.raises(Failed, match=r"Redfish: .*404"):
            probe.read("/redfish/v1/Chassis/Shelf")
    assert value(found, "node_power_watts", source="redfish") == 1429.5
    assert value(found, "psu_power_watts", psu="0") == 760
    assert value(found, "psu_power_watts", psu="1") == 655
    assert not [each for each in found if 'psu="2"' in each.labels], "an empty slot is no supply of 0 W"


def test_a_bmc_that_is_not_there_is_named() -> None:
    probe = Redfish(Bmc(f"http://127.0.0.1:{peers.free_port(socket.SOCK_STREAM)}"), run)
    with pytest.raises(Failed, match="Redfish"):
        probe.parts()


@pytest.mark.parametrize("output", [b"", b"[1]", b"<html>busy</html>"])
def test_what_is_no_redfish_is_a_failure(output: bytes) -> None:
    with pytest.raises(Failed, match="is no"):
        Redfish(Bmc("https://bmc"), Tools({"curl": (0, output)})).parts()


@pytest.mark.parametrize("maker", ["dell", "hp"])
def test_recorded_bmcs_are_read(shared_samples: Path, maker: str) -> None:
    document = json.loads((shared_samples / f"redfish/telegraf-{maker}_power.json").read_text())
    found = redfish.parse(document)
    assert (
        value(found, "node_power_watts", source="redfish")
        == document["PowerControl"][0]["PowerConsumedWatts"]
    )


APC = "1.3.6.1.4.1.318.1.1.26"
RECORDS = f"""{APC}.4.3.1.5.1|2|512
{APC}.4.3.1.9.1|66|123456
{APC}.6.3.1.5.1|2|213
{APC}.6.3.1.6.1|2|-1
{APC}.99.1|4|1234567890123456789012345678901234567890
"""


def test_a_pdu_is_read_in_its_makers_units(tmp_path: Path) -> None:
    with peers.pdu(tmp_path / "pdu", RECORDS) as port:
        outlet = Outlet("a", "127.0.0.1", "rack3", PROFILES["apc"], port, node="input")
        probe = Pdu([outlet, outlet._replace(name="b", community="wrong")])
        assert probe.parts() == ("a", "b")
        found = probe.read("a")
    assert value(found, "pdu_power_watts", pdu="a", input="input") == 5120
    assert value(found, "pdu_energy_joules_total", input="input") == pytest.approx(12345.6 * 3.6e6)
    assert value(found, "pdu_current_amperes", input="L1") == pytest.approx(21.3)
    assert value(found, "node_power_watts", source="pdu") == 5120
    assert not [each for each in found if "voltage" in each.name], "-1 means that it does not measure it"


def test_every_length_of_text_and_number_crosses_the_wire(tmp_path: Path) -> None:
    long = "x" * 700
    records = f"1.3.6.1.2.1.1.1.0|4|{long}\n1.3.6.1.2.1.1.3.0|67|4294967295\n1.3.6.1.2.1.1.7.0|2|-70000\n"
    records += "1.3.6.1.2.1.31.1.1.1.6.1|70|18446744073709551615\n"
    oids = [line.partition("|")[0] for line in records.splitlines()]
    with peers.pdu(tmp_path / "pdu", records) as port:
        found = snmp.get("127.0.0.1", port, "rack3", [*oids, "1.3.6.1.2.1.1.99.0"], 6.0)
    assert list(found.values()) == [long.encode(), 4294967295, -70000, 18446744073709551615, None]


def test_a_pdu_that_does_not_answer_is_left_alone_after_a_while() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        with pytest.raises(snmp.Silent, match="is the community right"):
            snmp.get("127.0.0.1", deaf.getsockname()[1], "public", ["1.3.6.1"], 0.15)


@pytest.mark.parametrize(
    "answer", [b"", b"\x30", b"\x30\x05ab", b"hello", b"\x30\x82\xff\xff\x00", b"\x02\x01\x05"]
)
def test_what_is_no_snmp_is_no_answer(answer: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as odd:
        odd.bind(("127.0.0.1", 0))

        def reply() -> None:
            odd.sendto(answer, odd.recvfrom(2000)[1])

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(snmp.Silent, match="no SNMP"):
            snmp.get("127.0.0.1", odd.getsockname()[1], "public", ["1.3.6.1"], 6.0)
        thread.join()


def test_a_pdu_may_say_numbers_as_texts() -> None:
    outlet = Outlet(
        "a",
        "h",
        "c",
        (Point("1.2", "power_watts", 1.0, "outlet 7"), Point("1.3", "voltage_volts", 0.1, "L1")),
    )
    found = parse(outlet, {"1.2": b" 340 ", "1.3": b"n/a"})
    assert [(each.value, each.labels) for each in found] == [(340, 'pdu="a",input="outlet 7"')]


def rapl(root: Path, package: str, core: str = "50") -> None:
    zones = {
        "intel-rapl:0": ("package-0", package),
        "intel-rapl:0:0": ("core", core),
        "intel-rapl:1": ("package-1", "7000000"),
    }
    for zone, (name, micros) in zones.items():
        box.write(
            root / "sys/class/powercap" / zone,
            {"name": name, "energy_uj": micros, "max_energy_range_uj": "262143328850"},
        )


def test_processors_count_energy_and_their_counters_wrap(tmp_path: Path) -> None:
    rapl(tmp_path, "262143000000")
    probe = Rapl(tmp_path)
    assert probe.parts() == ("packages",)
    assert value(probe.read("packages"), "cpu_energy_joules_total", package="0", zone="package") == 0
    rapl(tmp_path, "1671150")
    found = probe.read("packages")
    assert value(found, "cpu_energy_joules_total", package="0", zone="package") == 2
    assert value(found, "cpu_energy_joules_total", package="0", zone="core") == 0
    assert probe.joules() == 2
    assert since(10, 4, None) == 4


def test_counters_that_only_root_may_read_are_said_to_be(tmp_path: Path) -> None:
    rapl(tmp_path, "5")
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    with pytest.raises(OSError, match="root's alone"):
        Rapl(tmp_path).parts()
    assert Rapl(tmp_path / "none").parts() == ()
