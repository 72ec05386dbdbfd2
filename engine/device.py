"""Devices by name, and the one place where DEV is read.

`CPU` (the same as `CPU:C`): kernels as C, compiled by the system's compiler. `INTERP`: the NumPy interpreter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np

from engine import heuristic
from engine.errors import DeviceError
from engine.kernel import Kernel
from engine.runtime.cpu import CpuRuntime
from engine.runtime.interp import evaluate
from engine.target import detect

Array = np.ndarray[Any, np.dtype[Any]]
Runnable = Callable[[Sequence[Array]], Array]


class Device(Protocol):
    """Runs kernels on arrays in the host's memory."""

    @property
    def name(self) -> str:
        """The canonical name: what `get` takes."""

    def run(self, kernel: Kernel, inputs: Sequence[Array]) -> Array:
        """The output of `kernel` for C-contiguous inputs in slot order, as a new array."""


class Interpreter:
    """The device INTERP: the definition of every op, and no compiler needed."""

    name = "INTERP"

    def run(self, kernel: Kernel, inputs: Sequence[Array]) -> Array:
        """See `Device`."""
        return evaluate(kernel, inputs)


class Cpu:
    """The device CPU: each kernel compiled once with the heuristic's schedule, on all cores this process may use.

    Compiled code is kept in `directory` across processes and found again by its content.
    """

    name = "CPU"
    KEPT = 4096  # kernels loaded at a time

    def __init__(self, directory: Path) -> None:
        self._target = detect()
        self._runtime = CpuRuntime(self._target, directory)
        self._prepared: dict[Kernel, Runnable] = {}
        self._lock = Lock()

    def run(self, kernel: Kernel, inputs: Sequence[Array]) -> Array:
        """See `Device`. CompileError if there is no compiler, saying what to install, or if it fails."""
        return self._program(kernel)(inputs)

    def _program(self, kernel: Kernel) -> Runnable:
        with self._lock:
            found = self._prepared.pop(kernel, None) or self._prepare(kernel)
            self._prepared[kernel] = found  # the one used last stands last
            if len(self._prepared) > self.KEPT:
                del self._prepared[next(iter(self._prepared))]
            return found

    def _prepare(self, kernel: Kernel) -> Runnable:
        threads = self._target.cores
        return self._runtime.prepare(kernel, heuristic.schedule(kernel, self._target, threads), threads)


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where compiled kernels are kept: tinyfleet/kernels in the user's cache; made, for its owner only."""
    found = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinyfleet" / "kernels"
    # Code is loaded from here: nobody else may put any there.
    found.mkdir(mode=0o700, parents=True, exist_ok=True)
    return found


_FACTORIES: dict[str, Callable[[], Device]] = {
    "CPU": lambda: Cpu(cache_directory()),
    "INTERP": Interpreter,
}
_ALIASES = {"CPU:C": "CPU"}


def register(name: str, make: Callable[[], Device]) -> None:
    """Make a device known under `name` (upper case); `make` is called when it is first used."""
    _FACTORIES[name.upper()] = make


def names() -> list[str]:
    """The names that `get` takes."""
    return sorted([*_FACTORIES, *_ALIASES])


def canonical(name: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """The canonical form of a device's name; None means the environment's DEV, and without one CPU.

    DeviceError lists the devices there are when the name is not one of them.
    """
    given = (environ.get("DEV") or "CPU") if name is None else name
    found = given.strip().upper()
    found = _ALIASES.get(found, found)
    if found not in _FACTORIES:
        source = "DEV" if name is None else "device"
        raise DeviceError(f"{source}={given!r}", f"no such device; there are {', '.join(names())}")
    return found


def get(name: str | None = None) -> Device:
    """The device of that name (None: DEV's), made when first asked for and kept. DeviceError as `canonical`."""
    return _made(canonical(name))


@lru_cache(maxsize=32)
def _made(name: str) -> Device:
    return _FACTORIES[name]()
