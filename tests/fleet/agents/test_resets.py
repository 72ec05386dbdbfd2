"""Resets of GPUs: root's verb on a machine of a folder's size, and the agent's end that asks for it and says how it went."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.agents.protocol import ResetSpec
from fleet.agents.resets import Resets
from fleet.agents.root_gpus import VERBS, holders
from fleet.agents.root_verbs import Refusal, Root
from tests.whole import until

AT = "0000:1b:00.0"


@pytest.fixture
def machine(tmp_path: Path) -> Root:
    """One NVIDIA GPU, and a nvidia-smi that writes down what it is told."""
    root = Root(tmp_path)
    for folder in (f"sys/bus/pci/devices/{AT}", f"proc/driver/nvidia/gpus/{AT}", "dev", "usr/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / f"proc/driver/nvidia/gpus/{AT}/information").write_text("Model: x\nDevice Minor: \t 3\n")
    (tmp_path / "dev/nvidia3").write_text("")
    tool(root, "nvidia-smi", f'echo "$@" >> {tmp_path}/told')
    return root


def tool(root: Root, name: str, script: str) -> None:
    """A program of the machine's."""
    path = root.at(f"/usr/bin/{name}")
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def process(root: Root, pid: int, name: str, opened: str) -> None:
    """A process of the machine's that has a file open."""
    (root.at(f"/proc/{pid}/fd")).mkdir(parents=True)
    root.at(f"/proc/{pid}/comm").write_text(f"{name}\n")
    os.symlink(root.at(opened), root.at(f"/proc/{pid}/fd/7"))


def reset(root: Root, at: object = AT, vendor: object = "nvidia") -> None:
    VERBS["gpu.reset"].do(root, "gpu.reset", {"pci_address": at, "vendor": vendor})


def test_the_makers_tool_resets_the_gpu_at_that_address(machine: Root) -> None:
    reset(machine)
    assert machine.at("/told").read_text() == f"--gpu-reset -i {AT}\n"


def test_amds_gpus_are_reset_by_amds_tool(machine: Root) -> None:
    tool(machine, "amd-smi", f'echo "$@" >> {machine.folder}/told')
    reset(machine, vendor="amd")
    assert machine.at("/told").read_text() == f"reset --gpureset --gpu {AT}\n"


def test_a_gpu_that_is_in_use_is_not_reset_and_its_users_are_named(machine: Root) -> None:
    process(machine, 411, "python3", "/dev/nvidia3")
    assert holders(machine, AT) == [(411, "python3")]
    with pytest.raises(Refusal, match=r"in use by python3 \(411\)"):
        reset(machine)
    assert not machine.at("/told").exists()


def test_who_has_another_gpu_open_or_lets_go_by_itself_is_not_in_the_way(machine: Root) -> None:
    machine.at("/dev/nvidia4").write_text("")
    process(machine, 411, "python3", "/dev/nvidia4")
    process(machine, 412, "nvidia-persiste", "/dev/nvidia3")
    reset(machine)
    assert machine.at("/told").exists()


def test_what_the_tool_says_is_the_reason_of_the_refusal(machine: Root) -> None:
    tool(machine, "nvidia-smi", "echo GPU Reset could not run because GPU has a display; exit 1")
    with pytest.raises(Refusal, match="nvidia-smi says: GPU Reset could not run"):
        reset(machine)


def test_without_the_tool_or_the_gpu_the_refusal_says_so(machine: Root) -> None:
    with pytest.raises(Refusal, match="amd-smi is not installed here"):
        reset(machine, vendor="amd")
    with pytest.raises(Refusal, match="fell off"):
        reset(machine, at="0000:2b:00.0")


@pytest.mark.parametrize(
    ("field", "at", "vendor"),
    [
        ("pci_address", "all", "nvidia"),
        ("pci_address", f"{AT} --x", "nvidia"),
        ("pci_address", 3, "nvidia"),
        ("vendor", AT, "intel"),
        ("vendor", AT, None),
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_named(
    machine: Root, field: str, at: object, vendor: object
) -> None:
    with pytest.raises(Refusal, match=f"field '{field}'"):
        reset(machine, at, vendor)
    assert not machine.at("/told").exists()


class Gpus:
    """GPUs that are reset as the test says, one after the other."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.refuse: str = ""
        self.measuring = True
        self.hinted = threading.Event()

    @contextmanager
    def aside(self) -> Iterator[None]:
        self.measuring = False
        try:
            yield
        finally:
            self.measuring = True

    def reset(self, name: str) -> None:
        assert not self.measuring
        if self.refuse:
            raise Refusal(self.refuse)
        self.done.append(name)


@pytest.fixture
def gpus() -> Gpus:
    return Gpus()


@pytest.fixture
def resets(gpus: Gpus) -> Iterator[Resets]:
    found = Resets(gpus.hinted.set, gpus.aside, gpus.reset)
    found.start()
    yield found
    found.stop()


def test_a_reset_is_done_once_however_often_it_is_wanted_and_said_until_it_is_not(
    gpus: Gpus, resets: Resets
) -> None:
    spec = ResetSpec(gpu="gpu1", generation=4)
    for _ in range(3):
        resets.want([spec])
        assert gpus.hinted.wait(20)
    assert gpus.done == ["gpu1"]
    (said,) = resets.reports()
    assert (said.gpu, said.generation, said.done) == ("gpu1", 4, True)
    resets.want([])
    assert resets.reports() == []


def test_another_asking_for_the_same_gpu_is_another_reset(gpus: Gpus, resets: Resets) -> None:
    for generation in (4, 9):
        resets.want([ResetSpec(gpu="gpu1", generation=generation)])
        until(lambda: len(resets.reports()) == 1, "it is reset", 20.0)
    assert gpus.done == ["gpu1", "gpu1"]


def test_a_refusal_is_said_with_its_reason_and_measuring_goes_on(gpus: Gpus, resets: Resets) -> None:
    gpus.refuse = "nvidia-smi is not installed here"
    resets.want([ResetSpec(gpu="gpu0", generation=1)])
    assert gpus.hinted.wait(20)
    (said,) = resets.reports()
    assert (said.done, said.detail) == (False, "nvidia-smi is not installed here")
    assert gpus.measuring
