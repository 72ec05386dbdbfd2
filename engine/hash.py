"""SHA3, SHAKE and Keccak of bytes and of tensors, computed by the engine: see engine.keccak.

The names are those of `keccak.SPONGES`: sha3_224, sha3_256, sha3_384, sha3_512 and shake_128, shake_256 as in
hashlib, and keccak_224 … keccak_512, the original padding that Ethereum uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias, overload

import numpy as np

from engine import dtype as dt
from engine import keccak
from engine.errors import InvalidGraph
from engine.keccak import SPONGES, Sponge
from engine.tensor import Tensor
from engine.tracing import Jit, jit

Array = np.ndarray[Any, np.dtype[Any]]
Bytes: TypeAlias = bytes | bytearray | memoryview


def output_length(name: str, length: int | None = None) -> int:
    """The bytes of a hash: `length` for shake_128 and shake_256, else the hash's own.

    InvalidGraph for an unknown name (it lists those there are), and for a length that is missing, negative or not
    the hash's own.
    """
    sponge = SPONGES.get(name)
    if sponge is None:
        raise InvalidGraph(f"no hash {name!r}; there are {', '.join(SPONGES)}", "digest")
    if sponge.length is not None:
        if length not in (None, sponge.length):
            raise InvalidGraph(f"{name} gives {sponge.length} bytes, not {length}", "digest")
        return sponge.length
    if length is None or length < 0:
        raise InvalidGraph(f"{name} needs the length of its output, 0 or more, not {length}", "digest")
    return length


@overload
def digest(name: str, data: Tensor, length: int | None = None) -> Tensor: ...
@overload
def digest(name: str, data: Bytes, length: int | None = None, device: str | None = None) -> bytes: ...
def digest(
    name: str, data: Bytes | Tensor, length: int | None = None, device: str | None = None
) -> bytes | Tensor:
    """The hash of `data`: bytes give bytes; a uint8 tensor (…, n) gives the hashes of its rows, lazily: uint8 (…, length).

    InvalidGraph as `output_length`, and for a tensor of another dtype.
    """
    if not isinstance(data, Tensor):
        return digests(name, [data], length, device)[0]
    size = output_length(name, length)
    return Tensor._of(keccak.digest(data.node, SPONGES[name], size), data.device)


def digests(
    name: str, messages: Sequence[Bytes], length: int | None = None, device: str | None = None
) -> list[bytes]:
    """The hashes of messages of any lengths, all at once: with batch as many states as there are messages.

    Needs memory, and takes time, for as many bytes as the longest has, for each message. InvalidGraph as
    `output_length`.
    """
    size = output_length(name, length)
    if size == 0 or not messages:
        return [b""] * len(messages)
    sponge = SPONGES[name]
    views = [memoryview(message).cast("B") for message in messages]
    blocks = [sponge.blocks(len(view)) for view in views]
    lanes = Tensor(_padded(views, sponge, max(blocks)), device=device)
    counts = None if len(set(blocks)) == 1 else Tensor(blocks, dt.int64, device=device)
    rows = _replayed(sponge.rate, size)(lanes, counts).numpy()
    return [row.tobytes() for row in rows]


@lru_cache(maxsize=32)
def _replayed(rate: int, size: int) -> Jit[[Tensor, Tensor | None], Tensor]:
    """The hash of padded lanes: for each number of messages and of blocks its kernels are only looked for once."""

    def hashed(lanes: Tensor, counts: Tensor | None) -> Tensor:
        state = keccak.absorb(lanes.node, None if counts is None else counts.node)
        return Tensor._of(keccak.squeeze(state, rate, size), lanes.device)

    return jit(hashed)


def _padded(messages: Sequence[memoryview], sponge: Sponge, blocks: int) -> Array:
    """The messages with their padding, as the lanes that `keccak.absorb` takes: (blocks, rate / 8, messages).

    Padded here and not in the graph, so that one kernel does for all lengths of as many blocks.
    """
    rows = np.zeros((len(messages), blocks * sponge.rate), np.uint8)
    for row, message in zip(rows, messages, strict=True):
        n = len(message)
        row[:n] = np.frombuffer(message, np.uint8)
        row[n] ^= sponge.suffix
        row[sponge.blocks(n) * sponge.rate - 1] ^= 0x80
    lanes = rows.view("<u8").astype(np.uint64, copy=False)
    return np.ascontiguousarray(lanes.reshape(len(messages), blocks, sponge.rate // 8).transpose(1, 2, 0))


def sha3_224(data: Bytes) -> bytes:
    """The 28 bytes of SHA3-224, on the default device."""
    return digest("sha3_224", data)


def sha3_256(data: Bytes) -> bytes:
    """The 32 bytes of SHA3-256, on the default device."""
    return digest("sha3_256", data)


def sha3_384(data: Bytes) -> bytes:
    """The 48 bytes of SHA3-384, on the default device."""
    return digest("sha3_384", data)


def sha3_512(data: Bytes) -> bytes:
    """The 64 bytes of SHA3-512, on the default device."""
    return digest("sha3_512", data)


def shake_128(data: Bytes, length: int) -> bytes:
    """`length` bytes of SHAKE128, on the default device."""
    return digest("shake_128", data, length)


def shake_256(data: Bytes, length: int) -> bytes:
    """`length` bytes of SHAKE256, on the default device."""
    return digest("shake_256", data, length)
