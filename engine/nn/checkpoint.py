"""Checkpoints: tensors by name in a file of the safetensors format, all dtypes, nothing executable.

The safetensors library writes the file and checks one that is read; elements are then mapped into memory and read
when a tensor is asked for. Its NumPy side has no 8-bit floats, ml_dtypes has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.tensor import Tensor

_DTYPES: dict[str, DType] = {
    "BOOL": dt.bool_,
    **{
        f"{'I' if d.category is dt.Category.SIGNED else 'U'}{d.bits}": d
        for d in dt.DTYPES.values()
        if d.is_int
    },
    "F8_E4M3": dt.float8_e4m3fn,
    "F8_E5M2": dt.float8_e5m2,
    "F16": dt.float16,
    "BF16": dt.bfloat16,
    "F32": dt.float32,
    "F64": dt.float64,
}


def safe_save(
    tensors: Mapping[str, Tensor], path: str | PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write the tensors (computing those that are not yet) and, in the file's head, some words about them."""
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InvalidGraph(
                f"{name!r} is {type(tensor).__name__}: only Tensors by name are saved", "safe_save"
            )
    if tensors:
        first, *others = tensors.values()
        first.realize(*others)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    save_file(arrays, path, dict(metadata) if metadata else None)


def safe_load(path: str | PathLike[str], device: str | None = None) -> Checkpoint:
    """The tensors of a file by name. InvalidGraph if it is no safetensors file or has a dtype the engine has not."""
    if Path(path).is_dir():
        raise InvalidGraph(f"{path} is a folder: name the .safetensors file in it", "safe_load")
    return Checkpoint(Path(path), device)


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a file; each is read when it is asked for, and anew each time."""

    def __init__(self, path: Path, device: str | None) -> None:
        self._path, self._device = path, device
        self._entries, self._start = _head(path)
        self.metadata: dict[str, str] = self._entries.pop("__metadata__", {})

    def __getitem__(self, name: str) -> Tensor:
        entry = self._entries[name]
        dtype, shape = self._dtype(name), tuple(entry["shape"])
        first, last = entry["data_offsets"]
        if first == last:
            return Tensor(np.empty(shape, dtype.numpy), device=self._device)
        mapped = np.memmap(self._path, np.uint8, "r", self._start + first, (last - first,))
        return Tensor(mapped.view(dtype.numpy).reshape(shape), device=self._device)

    def _dtype(self, name: str) -> DType:
        found = _DTYPES.get(self._entries[name]["dtype"])
        if found is None:
            raise InvalidGraph(
                f"{name} is {self._entries[name]['dtype']}; there are {', '.join(_DTYPES)}", "dtype"
            )
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _head(path: Path) -> tuple[dict[str, Any], int]:
    """What the file says it holds, checked by the library (lengths, offsets, overlaps), and where elements begin."""
    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise InvalidGraph(f"{path} is no safetensors file: {error}", "checkpoint") from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length
