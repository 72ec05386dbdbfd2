"""The peers there are: NumPy's BLAS, and PyTorch and tinygrad where this environment has them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

# As NumPy's wheels, and systems, name them.
_PREFIXES, _SUFFIXES = ("scipy_openblas_", "openblas_"), ("64_", "")


@dataclass(frozen=True)
class Blas:
    """NumPy's BLAS: what it is, for which core it has chosen its kernels, and how its threads are set."""

    name: str
    core: str
    set_threads: Callable[[int], object]


@cache
def blas() -> Blas:
    """NumPy's; where it is no OpenBLAS its threads cannot be set, and its name says so."""
    np.ones((2, 2), np.float32) @ np.ones((2, 2), np.float32)
    for path in _loaded("openblas"):
        library = ctypes.CDLL(path)
        threads, core = (_function(library, name) for name in ("set_num_threads", "get_corename"))
        if threads is not None and core is not None:
            core.restype = ctypes.c_char_p
            return Blas("OpenBLAS", core().decode(), threads)
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]  # type: ignore[index]
    return Blas(f"NumPy ({built}, all its threads)", "unknown", lambda threads: None)


def _loaded(word: str) -> list[str]:
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    return list(dict.fromkeys(line.split(maxsplit=5)[5] for line in lines if word in line and "/" in line))


def _function(library: ctypes.CDLL, name: str) -> Any:
    names = (prefix + name + suffix for prefix in _PREFIXES for suffix in _SUFFIXES)
    return next((getattr(library, each) for each in names if hasattr(library, each)), None)


@cache
def torch() -> Any:
    """PyTorch, or None where it is not installed."""
    return import_module("torch") if find_spec("torch") else None


def limit(threads: int) -> None:
    """Let all peers of this process use so many threads."""
    blas().set_threads(threads)
    if torch() is not None:
        torch().set_num_threads(threads)


def described() -> str:
    """The peers and their versions; those that are missing, too."""
    parts = [f"NumPy {np.__version__} with {blas().name} for {blas().core}"]
    for module, name in (("torch", "PyTorch"), ("tinygrad", "tinygrad")):
        parts.append(f"{name} {metadata.version(module)}" if find_spec(module) else f"no {name} installed")
    return " · ".join(parts)
