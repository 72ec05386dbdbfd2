"""The little of NVML that an attempt's end needs, without its Python package: a GPU by the number of its device node."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_uint64), ("free", ctypes.c_uint64), ("used", ctypes.c_uint64))


class _Pci(ctypes.Structure):
    """nvmlPciInfo_t, its third version."""

    _fields_ = (
        ("short_address", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("ids", ctypes.c_uint),
        ("subsystem", ctypes.c_uint),
        ("address", ctypes.c_char * 32),
    )


def used_bytes(number: int) -> int | None:
    """Memory in use on the NVIDIA GPU of this minor number, as its driver says; None where there is none to ask."""

    def read(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> int | None:
        memory = _Memory()
        return None if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) else int(memory.used)

    return _with_gpu(number, read)


def pci_address(number: int) -> str | None:
    """The PCI address of the NVIDIA GPU of this minor number ("00000000:1B:00.0"); None where there is none to ask."""

    def read(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> str | None:
        found = _Pci()
        return None if nvml.nvmlDeviceGetPciInfo_v3(handle, ctypes.byref(found)) else found.address.decode()

    return _with_gpu(number, read)


def link(number: int) -> tuple[int | None, int | None]:
    """Width and generation of the GPU's PCIe link as it is now; None for what its driver does not say. A GPU that idles
    may have slowed it down."""

    def read(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> tuple[int | None, int | None]:
        names = ("nvmlDeviceGetCurrPcieLinkWidth", "nvmlDeviceGetCurrPcieLinkGeneration")
        width, generation = (_unsigned(nvml, name, handle) for name in names)
        return width, generation

    return _with_gpu(number, read) or (None, None)


def temperature(number: int) -> float | None:
    """Of the GPU's die, in °C; None when its driver does not say."""
    return _with_gpu(number, lambda nvml, handle: _unsigned(nvml, "nvmlDeviceGetTemperature", handle, 0))


def _unsigned(nvml: ctypes.CDLL, name: str, handle: ctypes.c_void_p, *more: int) -> int | None:
    found = ctypes.c_uint()
    return None if getattr(nvml, name)(handle, *more, ctypes.byref(found)) else found.value


def _with_gpu(number: int, read: Callable[[ctypes.CDLL, ctypes.c_void_p], Found | None]) -> Found | None:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2():
        return None
    try:
        handle = _handle(nvml, number)
        return None if handle is None else read(nvml, handle)
    finally:
        nvml.nvmlShutdown()


def _handle(nvml: ctypes.CDLL, number: int) -> ctypes.c_void_p | None:
    count, minor, handle = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_void_p()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return None
    for index in range(count.value):
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            continue
        if not nvml.nvmlDeviceGetMinorNumber(handle, ctypes.byref(minor)) and minor.value == number:
            return handle
    return None
