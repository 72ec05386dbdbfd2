"""The binary `gpu_metrics` file of the amdgpu driver: one structure by revision, little-endian, without a length per field.

Layouts: kgd_pp_interface.h of Linux, revisions 1.0 to 1.3 (Radeon, MI100, MI200) and 1.4 to 1.6 (MI300). A field that the
firmware does not fill has all bits set.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_HEADER = struct.Struct("<HBB")
_SHORT, _LONG = 0xFFFF, (1 << 64) - 1
# Offsets of 16-bit fields.
_OLD = {
    "edge": 16,
    "junction": 18,
    "memory": 20,
    "vrgfx": 22,
    "vrsoc": 24,
    "vrmem": 26,
    "busy": 28,
    "power": 34,
}
_RADEON = {
    "edge": 4,
    "junction": 6,
    "memory": 8,
    "vrgfx": 10,
    "vrsoc": 12,
    "vrmem": 14,
    "busy": 16,
    "power": 22,
}
_INSTINCT = {"junction": 4, "memory": 6, "vrsoc": 8, "power": 10, "busy": 12}
_FIELDS = {0: _OLD, 1: _RADEON, 2: _RADEON, 3: _RADEON, 4: _INSTINCT, 5: _INSTINCT, 6: _INSTINCT}
_CLOCK = {0: 54, 1: 54, 2: 54, 3: 54}
_THROTTLERS = {3: 112}  # the bits that mean the same on all chips
_LINKS = {4: 104, 5: 184}  # 8 links: KiB read, then KiB written
# Bits of those throttlers.
_REASONS = {
    "power_cap": 0xFFFF,
    "current": 0xFFFF << 16,
    "hw_thermal": 0xFF_FFFF << 32,
    "other": 0xFF << 56,
}
REASONS = tuple(_REASONS)


class GpuMetrics(NamedTuple):
    """What it says: °C by sensor, W, a ratio, Hz; None for what is not available. `links`: bytes (read, written)."""

    revision: str
    temperatures: dict[str, int]
    power_watts: int | None
    busy_ratio: float | None
    clock_hertz: int | None
    throttled: tuple[str, ...] | None
    links: tuple[tuple[int, int], ...]


def parse(content: bytes) -> GpuMetrics | None:
    """The structure; None when it is shorter than it says, or of a revision that is not known."""
    if len(content) < _HEADER.size:
        return None
    size, form, revision = _HEADER.unpack_from(content)
    fields = _FIELDS.get(revision) if form == 1 else None
    if fields is None or size > len(content) or size < max(fields.values()) + 2:
        return None
    values = {name: _available(content, offset) for name, offset in fields.items()}
    busy, power = values.pop("busy"), values.pop("power")
    clock = _available(content, _CLOCK[revision]) if revision in _CLOCK else None
    return GpuMetrics(
        revision=f"{form}.{revision}",
        temperatures={name: value for name, value in values.items() if value is not None and value < 200},
        power_watts=power,
        busy_ratio=None if busy is None or busy > 100 else busy / 100,
        clock_hertz=None if clock is None else clock * 1_000_000,
        throttled=_throttled(content, revision, size),
        links=_links(content, revision, size),
    )


def _available(content: bytes, offset: int) -> int | None:
    (value,) = struct.unpack_from("<H", content, offset)
    return None if value == _SHORT else int(value)


def _throttled(content: bytes, revision: int, size: int) -> tuple[str, ...] | None:
    offset = _THROTTLERS.get(revision)
    if offset is None or size < offset + 8:
        return None
    (bits,) = struct.unpack_from("<Q", content, offset)
    return None if bits == _LONG else tuple(name for name, mask in _REASONS.items() if bits & mask)


def _links(content: bytes, revision: int, size: int) -> tuple[tuple[int, int], ...]:
    offset = _LINKS.get(revision)
    if offset is None or size < offset + 128:
        return ()
    values = struct.unpack_from("<16Q", content, offset)
    pairs = zip(values[:8], values[8:], strict=True)
    return tuple((read * 1024, written * 1024) for read, written in pairs if _LONG not in (read, written))
