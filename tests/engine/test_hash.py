"""Hashes: equal to hashlib's, whatever the lengths, and graphs that do not grow with the message."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine import hash as hashes
from engine import keccak
from engine.build import param
from engine.errors import InvalidGraph
from engine.ir import UOp, toposort
from engine.ops import Op
from engine.order import order
from engine.tensor import Tensor
from engine.unfold import unfold

pytestmark = pytest.mark.slow

FIXED = ("sha3_224", "sha3_256", "sha3_384", "sha3_512")
SHAKES = ("shake_128", "shake_256")


def expected(name: str, message: bytes, length: int | None = None) -> bytes:
    made = hashlib.new(name, message)
    return made.digest() if length is None else made.digest(length)


def message(length: int, seed: int = 0) -> bytes:
    return np.random.default_rng([seed, length]).bytes(length)


def boundaries(rate: int) -> list[int]:
    return [0, 1, 7, 8, 9, *(k * rate + d for k in (1, 2, 3) for d in (-9, -8, -2, -1, 0, 1))]


@pytest.mark.parametrize("name", FIXED)
def test_messages_of_every_boundary_length_hash_as_in_hashlib(name: str) -> None:
    messages = [message(n) for n in boundaries(keccak.SPONGES[name].rate)]
    found = hashes.digests(name, messages, device="INTERP")
    assert found == [expected(name, m) for m in messages]


@pytest.mark.parametrize("name", SHAKES)
def test_shake_of_every_boundary_length_is_as_in_hashlib(name: str) -> None:
    messages = [message(n) for n in boundaries(keccak.SPONGES[name].rate)]
    found = hashes.digests(name, messages, 40, device="INTERP")
    assert found == [expected(name, m, 40) for m in messages]


@pytest.mark.parametrize("name", SHAKES)
@pytest.mark.parametrize("blocks", [1, 2, 3, 7])
@pytest.mark.slow
def test_shake_gives_any_number_of_bytes(name: str, blocks: int) -> None:
    rate = keccak.SPONGES[name].rate
    for length in (blocks * rate - 1, blocks * rate, blocks * rate + 1):
        found = hashes.digest(name, b"any length", length, device="INTERP")
        assert found == expected(name, b"any length", length)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(0, 400))
@pytest.mark.slow
def test_random_messages_of_different_lengths_hash_in_one_batch(messages: list[bytes], length: int) -> None:
    found = hashes.digests("shake_128", messages, length, device="INTERP")
    assert found == [expected("shake_128", m, length) for m in messages]


@pytest.mark.parametrize("length", [0, 1, 71, 72, 73, 150])
def test_the_rows_of_a_tensor_are_padded_and_hashed_in_the_graph(length: int) -> None:
    rows = np.random.default_rng(length).integers(0, 256, (2, 3, length), np.uint8)
    found = hashes.digest("sha3_512", Tensor(rows, device="INTERP"))
    assert found.shape == (2, 3, 64)
    assert found.dtype is dt.uint8
    wanted = [[list(expected("sha3_512", row.tobytes())) for row in plane] for plane in rows]
    assert found.tolist() == wanted


def test_a_hash_of_a_computed_tensor_is_lazy() -> None:
    x = Tensor(np.arange(40, dtype=np.uint8), device="INTERP")
    found = hashes.digest("shake_256", x + x, 17)
    assert "lazy" in repr(found)
    wanted = expected("shake_256", bytes(range(0, 80, 2)), 17)
    assert bytes(found.tolist()) == wanted


def test_keccak_has_the_padding_of_before_the_standard() -> None:
    assert hashes.digest("keccak_256", b"", device="INTERP").hex() == (
        "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    )
    assert hashes.digest("keccak_256", b"abc", device="INTERP").hex() == (
        "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
    )


def test_the_permutation_of_zeros_is_the_published_one() -> None:
    zeros = [Tensor.zeros(1, dtype=dt.uint64, device="INTERP").node] * keccak.LANES
    once, twice = (keccak.permutations(zeros, times) for times in (1, 2))
    assert value(once[0]) == 0xF1258F7940E1DDE7
    assert value(once[24]) == 0xEAF1FF7B5CECA249
    assert value(twice[0]) == 0x2D5C954DF96ECB3C


def value(node: UOp) -> int:
    number = Tensor._of(node, "INTERP").item()
    assert isinstance(number, int)
    return number


def test_no_messages_have_no_hashes_and_no_bytes_are_no_work() -> None:
    assert hashes.digests("sha3_256", [], device="INTERP") == []
    assert hashes.digests("shake_128", [b"a", b"b"], 0, device="INTERP") == [b"", b""]


def size(length: int, output: int = 32, name: str = "sha3_256") -> int:
    graph = keccak.digest(param(0, (1, length), dt.uint8), keccak.SPONGES[name], output)
    return len(toposort(graph))


def test_the_graph_does_not_grow_with_the_message() -> None:
    # a constant more or less: some are shared
    assert max(size(1 << 40), size(1 << 26)) <= size(300) + 2


def test_the_graph_grows_with_the_logarithm_of_the_output() -> None:
    rate = keccak.SPONGES["shake_128"].rate
    sizes = [size(3, rate * keccak.FANOUT**n, "shake_128") for n in (2, 3, 4)]
    assert sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0], rel=0.02)  # constants are shared


def test_messages_of_as_many_blocks_have_the_same_kernels() -> None:
    rate = keccak.SPONGES["sha3_256"].rate
    kernels = []
    for _ in range(2):
        lanes = Tensor(np.zeros((3, rate // 8, 1), np.uint64), device="INTERP").node
        graph = keccak.squeeze(keccak.absorb(lanes), rate, 32)
        kernels.append([step.kernel for step in order(unfold([graph]))])
    assert kernels[0] == kernels[1]


def test_a_batch_is_permuted_by_one_loop_of_element_wise_ops() -> None:
    graph = keccak.digest(param(0, (8, 1000), dt.uint8), keccak.SPONGES["sha3_256"], 32)
    (loop,) = [node for node in toposort(graph) if node.op is Op.FOLD]
    body = toposort(*loop.src[-loop.arg[2] :])
    assert {node.op for node in body} & {Op.FOLD, Op.REDUCE, Op.GATHER, Op.SCATTER} == set()


@pytest.mark.parametrize(
    ("name", "length", "said"),
    [
        ("md5", None, "no hash 'md5'; there are sha3_224"),
        ("shake_128", None, "needs the length of its output"),
        ("shake_128", -1, "needs the length of its output"),
        ("sha3_256", 20, "gives 32 bytes, not 20"),
    ],
)
def test_a_hash_that_is_not_there_is_refused(name: str, length: int | None, said: str) -> None:
    with pytest.raises(InvalidGraph, match=said):
        hashes.digest(name, b"", length)


def test_only_bytes_are_hashed() -> None:
    with pytest.raises(InvalidGraph, match=r"not int64 \(3,\)"):
        hashes.digest("sha3_256", Tensor([1, 2, 3], device="INTERP"))


@pytest.mark.slow
@pytest.mark.parametrize("device", ["CPU"])
@pytest.mark.parametrize("length", [0, 135, 136, 1 << 20, (1 << 26) - 1, 1 << 26])
def test_compiled_hashes_are_right_up_to_64_mebibytes(device: str, length: int) -> None:
    data = message(length)
    assert hashes.digest("sha3_256", data, device=device) == expected("sha3_256", data)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["CPU"])
def test_compiled_batches_and_long_outputs_are_right(device: str) -> None:
    messages = [message(n) for n in (0, 1, 167, 168, 5_000, 100_000)]
    found = hashes.digests("shake_128", messages, 20_000, device=device)
    assert found == [expected("shake_128", m, 20_000) for m in messages]
