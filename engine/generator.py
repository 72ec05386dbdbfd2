"""Where the random numbers of a device come from: a state that every draw moves on.

The state is data, not part of the graph's structure: two draws of one shape are one kernel. It is held as tensors
hold theirs (engine.cell), so that a function given to jit draws other numbers in every replay.
"""

from __future__ import annotations

import secrets
from threading import Lock

import numpy as np

from engine import dtype as dt
from engine.build import const, elementwise, iota
from engine.cell import Cell, watching
from engine.device import canonical, get
from engine.device.protocol import Absent
from engine.ir import UOp
from engine.ops import Op
from engine.realize import hold, is_realized, memory, realize

MASK = (1 << 64) - 1


def state_of(seed: int, used: int = 0) -> UOp:
    """The state (engine.random) of a seed, modulo 2**64, of which so many counters were used."""
    return hold(np.array([seed & MASK, used & MASK], np.uint64))


class Generator(Cell):
    """A stream of random numbers for one device; None is the environment's DEV. Without a seed, the system's."""

    __slots__ = ("_lock", "device")

    def __init__(self, seed: int | None = None, device: str | None = None) -> None:
        self.device = canonical(device)
        self._lock = Lock()
        self.manual_seed(secrets.randbits(64) if seed is None else seed)

    def manual_seed(self, seed: int) -> None:
        """Start the stream of `seed` (modulo 2**64) from the beginning."""
        self._node = state_of(seed)

    def take(self, counters: int) -> UOp:
        """The state for a draw that uses up so many counters; the next one gets those behind."""
        with self._lock:
            before = self._node
            self._node = _moved(before, counters, self.device)
            return before


def _moved(state: UOp, counters: int, device: str) -> UOp:
    if watching() is None:
        (state,) = (state,) if is_realized(state) else realize([state], get(device))
        found = memory(state)
        if not isinstance(found, Absent):
            return state_of(int(found[0]), int(found[1]) + counters)
    # Inside jit the stream moves on by a kernel, which a replay runs again.
    used = elementwise(Op.EQ, iota(2), const(1, dt.int64, (2,)))
    step = elementwise(Op.WHERE, used, const(counters, dt.uint64, (2,)), const(0, dt.uint64, (2,)))
    return UOp(Op.CONTIGUOUS, dt.uint64, (elementwise(Op.ADD, state, step),), "global")


_of_devices: dict[str, Generator] = {}
_seeds: list[int] = []  # the one that manual_seed gave, if it was called
_lock = Lock()


def default(device: str | None = None) -> Generator:
    """The generator that draws for a device when none is named."""
    name = canonical(device)
    with _lock:
        if name not in _of_devices:
            _of_devices[name] = Generator(_seeds[0] if _seeds else None, name)
        return _of_devices[name]


def manual_seed(seed: int) -> None:
    """Start the default generators of all devices from `seed`: those there are, and those to come."""
    with _lock:
        _seeds[:] = [seed]
        for generator in _of_devices.values():
            generator.manual_seed(seed)
