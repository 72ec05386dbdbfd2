"""XIDs from the kernel's log: recorded, and as they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.agents.probes.kmsg import Kmsg, Line, parse
from fleet.agents.xids import Xids
from tests.fleet.agents.probes.reading import value
from tests.fleet.agents.probes.tools import recorded


def log(root: Path, content: bytes) -> Path:
    path = root / "dev" / "kmsg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_every_xid_since_the_boot_counts_and_the_last_has_its_time(tmp_path: Path) -> None:
    path, xids = log(tmp_path, recorded("kmsg-xids.txt")), Xids()
    probe = Kmsg(xids, tmp_path, clock=lambda: 300.0, wall=lambda: 10_300.0)
    assert probe.parts() == ("log",)
    assert probe.read("log") == []
    known = {"0000:1b:00.0": 'gpu="0",uuid="x"', "0000:9b:00.0": 'gpu="4",uuid="y"'}
    found = xids.samples(known)
    assert value(found, "gpu_xid_errors_total", gpu="4", xid="119") == 2
    assert value(found, "gpu_xid_last_timestamp_seconds", gpu="4", xid="119") == pytest.approx(10_106.5)
    assert value(found, "gpu_xid_errors_total", gpu="0", xid="79") == 1
    assert value(found, "gpu_xid_errors_total", gpu="0", xid="31") == 1
    with path.open("ab") as file:
        file.write(b"4,1207,250000000,-;NVRM: Xid (PCI:0000:1b:00): 79, again\n")
    probe.read("log")
    assert value(xids.samples(known), "gpu_xid_errors_total", gpu="0", xid="79") == 2


def test_a_machine_without_the_log_or_the_right_to_it(tmp_path: Path) -> None:
    assert Kmsg(Xids(), tmp_path).parts() == ()
    log(tmp_path, b"").unlink()
    (tmp_path / "dev/kmsg").mkdir()
    probe = Kmsg(Xids(), tmp_path)
    probe.parts()
    with pytest.raises(OSError, match="directory"):
        probe.read("log")


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ("4,1,5000000,-;NVRM: Xid (PCI:0000:9b:00): 79, x", Line("0000:9b:00.0", 79, 5.0)),
        ("4,1,5000000,c,caller=T1;NVRM: Xid (PCI:0009:01:00.0): 48, x", Line("0009:01:00.0", 48, 5.0)),
        ("NVRM: Xid (PCI:0000:9b:00): 79", None),
        ("6,1,5,-;nvidia: loading", None),
        ("", None),
    ],
)
def test_only_records_of_the_driver_are_xids(record: str, found: Line | None) -> None:
    assert parse(record) == found


def test_a_real_log_with_an_xid_is_read(shared_samples: Path) -> None:
    lines = (shared_samples / "dcgm/gpud-dmesg-with-xid-119.log").read_text().splitlines()
    found = [parse(f"4,1,0,-;{line}") for line in lines]
    xids = [each.xid for each in found if each is not None]
    assert set(xids) == {119}
    assert len(xids) == sum("Xid" in line for line in lines)
