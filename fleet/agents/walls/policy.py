"""What an attempt may do, by job kind and by how much its node is trusted with. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# In the order in which they are tried: bubblewrap, round commands, inside of those before it.
WALLS = ("landlock", "seccomp", "uid", "rights", "limits", "cgroup", "memory", "namespaces", "bubblewrap")
# all: those that the machine has. required: an attempt does not start without one of them. none: a trusted node.
Mode = Literal["all", "required", "none"]
MODES: tuple[Mode, ...] = ("all", "required", "none")

# Kinds that compile or measure execute compilers, and the engine's starter; commands are programs. The others execute nothing.
_EXECUTING = frozenset({"kernel", "measure", "confirm", "command", "burnin"})


@dataclass(frozen=True)
class Ceilings:
    """What an attempt may use; `processes` counts threads too. 0 of memory is what the machine has, less a tenth."""

    memory_bytes: int = 0
    processes: int = 4096
    open_files: int = 4096
    file_bytes: int = 8 << 30


@dataclass(frozen=True)
class Policy:
    """What one attempt may do."""

    programs: bool  # execute them
    gpus: tuple[int, ...] = ()  # which ones it may open
    ceilings: Ceilings = Ceilings()
    network: bool = False  # reach it
    readable: tuple[Path, ...] = ()  # folders of the node's beside its own
    wrapped: bool = (
        False  # in bubblewrap, where the node has it: programs of the job's owner, that are executed anyhow
    )
    container: bool = (
        False  # Landlock and seccomp are its runtime's to raise, or to stand in for (agents.containers)
    )


def policy(kind: str, device: str, ceilings: Ceilings, gpus: Iterable[str] = ()) -> Policy:
    """Of a job kind on a device ("cpu", "gpu0" …), with GPUs of its own beside it."""
    numbers = [name.removeprefix("gpu") for name in (device, *gpus) if name.startswith("gpu")]
    own = sorted({int(number) for number in numbers if number.isdigit()})
    return Policy(kind in _EXECUTING, tuple(own), ceilings, wrapped=kind == "command")


def chosen(text: str) -> tuple[Mode, frozenset[str]]:
    """The mode, and which walls are meant, of "all", "required", "none" or names with commas. ValueError names the fix."""
    names = frozenset(name.strip() for name in text.split(","))
    for mode in MODES:
        if names == {mode}:
            return mode, frozenset() if mode == "none" else frozenset(WALLS)
    unknown = sorted(names - set(WALLS))
    if unknown:
        wrong = "stands alone" if unknown[0] in MODES else "is no wall"
        raise ValueError(f"{unknown[0]!r} {wrong}: give {', '.join(MODES)}, or some of {', '.join(WALLS)}")
    return "all", names
