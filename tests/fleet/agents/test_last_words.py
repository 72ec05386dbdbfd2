"""What the kernel's log says of a GPU after an attempt, from records as a kernel wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.agents.last_words import KernelLog, message, wrecking
from fleet.agents.walls import gpu

RECORDED = Path(__file__).parents[2] / "recorded" / "kmsg-xids.txt"
LINES = [message(record) for record in RECORDED.read_bytes().splitlines()]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("0000:9b:00.0", ["119", "119"]),
        ("00000000:1B:00.0", ["79"]),
        ("0000:1c:00.0", []),
        ("0001:9b:00.0", []),
        ("", []),
    ],
)
def test_a_gpu_that_has_to_be_reset_is_known_by_its_place(address: str, expected: list[str]) -> None:
    found = wrecking(LINES, [address])
    assert [line.partition("): ")[2].partition(",")[0] for line in found] == expected


@pytest.mark.parametrize("xid", [13, 31, 43, 45])
def test_what_a_program_does_wrong_wrecks_no_gpu(xid: int) -> None:
    assert wrecking([f"NVRM: Xid (PCI:0000:9b:00): {xid}, pid=1, name=python"], ["0000:9b:00.0"]) == []


def test_no_process_is_named_so_that_its_gpu_is_taken_for_wrecked() -> None:
    line = "python[7]: segfault at 0 NVRM: Xid (PCI:0000:9b:00): 79, GPU has fallen off the bus."
    assert wrecking([line], ["0000:9b:00.0"]) == []


def test_what_was_logged_before_the_attempt_is_not_its_own(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(b"3,1,1,-;NVRM: Xid (PCI:0000:9b:00): 79, before\n")
    log = KernelLog(str(path))
    assert log.wrecks(["0000:9b:00.0"]) == []
    with path.open("ab") as file:
        file.write(b"3,2,2,-;NVRM: Xid (PCI:0000:9b:00): 79, meanwhile\n")
    assert log.wrecks(["0000:9b:00.0"]) == ["NVRM: Xid (PCI:0000:9b:00): 79, meanwhile"]
    log.close()


def test_a_gpu_is_found_by_its_minor_number(tmp_path: Path) -> None:
    for place, minor in (("0000:1b:00.0", 0), ("0000:9b:00.0", 10)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "information").write_text(f"Model:\t\t NVIDIA H200\nDevice Minor: \t {minor}\n")
    assert gpu.pci_address(10, tmp_path) == "0000:9b:00.0"
    assert gpu.pci_address(1, tmp_path) == ""
    assert gpu.pci_address(0, tmp_path / "nothing") == ""
