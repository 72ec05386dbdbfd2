"""Tensor.assign: who sees the old elements and who the new ones."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from engine import dtype as dt
from engine.device import Interpreter
from engine.errors import DeviceError, InvalidGraph
from engine.kernel import Kernel
from engine.ops import Op
from engine.realize import realize
from engine.tensor import Tensor

A = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")


def test_the_assigned_tensor_has_the_new_elements() -> None:
    a = Tensor(A)
    assert a.assign(a + 1) is a
    np.testing.assert_array_equal(a.numpy(), A + 1)


def test_assigning_twice_adds_twice() -> None:
    a = Tensor(A)
    a.assign(a + 1)
    a.assign(a + 1)
    np.testing.assert_array_equal(a.numpy(), A + 2)


def test_two_tensors_of_the_same_elements_are_assigned_apart() -> None:
    a, b = Tensor(A), Tensor(Tensor(A))
    c = Tensor(a)
    a.assign(a + 1)
    b.assign(b + 1)
    c.assign(c * 2)
    for tensor, wanted in ((a, A + 1), (b, A + 1), (c, A * 2)):
        np.testing.assert_array_equal(tensor.numpy(), wanted)


def test_a_reader_written_down_before_sees_the_old_elements_whenever_it_is_computed() -> None:
    a = Tensor(A)
    before = a * 10
    a.assign(a + 1)
    after = a * 10
    np.testing.assert_array_equal(a.numpy(), A + 1)
    np.testing.assert_array_equal(before.numpy(), A * 10)
    np.testing.assert_array_equal(after.numpy(), (A + 1) * 10)


def test_readers_of_old_and_new_elements_meet_in_one_kernel() -> None:
    a = Tensor(A)
    before = a * 10
    a.assign(a + 1)
    np.testing.assert_array_equal((a - before).numpy(), A + 1 - A * 10)


def test_a_transpose_is_assigned_whole() -> None:
    a = Tensor(A[:, :3])
    a.assign(a.T)
    np.testing.assert_array_equal(a.numpy(), A[:, :3].T)
    a.assign(a.T + a)
    np.testing.assert_array_equal(a.numpy(), A[:, :3] + A[:, :3].T)


def test_an_optimizer_step_leaves_an_unrealized_reader_the_old_weights() -> None:
    weight, momentum = Tensor(A), Tensor(A * 0)
    logged = (weight * weight).sum()
    for _ in range(3):
        momentum.assign(momentum * 0.5 + weight)
        weight.assign(weight - momentum * 0.1)
        weight.realize(momentum)
    np.testing.assert_allclose(logged.numpy(), (A * A).sum())
    w, m = A, A * 0
    for _ in range(3):
        m = m * np.float32(0.5) + w
        w = w - m * np.float32(0.1)
    np.testing.assert_allclose(weight.numpy(), w, rtol=1e-6)


def test_swapping_two_tensors_is_a_swap() -> None:
    a, b = Tensor(A), Tensor(A + 100)
    old = Tensor(a)
    a.assign(b)
    b.assign(old)
    np.testing.assert_array_equal(a.numpy(), A + 100)
    np.testing.assert_array_equal(b.numpy(), A)


def test_a_tensor_that_was_never_computed_can_be_assigned() -> None:
    a = Tensor.zeros(3, 4)
    a.assign(Tensor(A))
    np.testing.assert_array_equal(a.numpy(), A)


def test_numbers_and_arrays_are_spread_and_converted() -> None:
    a = Tensor(A)
    np.testing.assert_array_equal(a.assign(7).numpy(), np.full_like(A, 7))
    np.testing.assert_array_equal(
        a.assign(np.arange(4, dtype=np.int32)).numpy(), np.tile(np.arange(4.0), (3, 1))
    )


def test_what_does_not_fit_is_refused_with_both_sides() -> None:
    a = Tensor(A)
    with pytest.raises(
        InvalidGraph, match=r"float32 \(4, 3\) in the place of float32 \(3, 4\): both must be alike"
    ):
        a.assign(a.T)
    with pytest.raises(InvalidGraph, match=r"int32 \(3, 4\) in the place of float32"):
        a.assign(a.int())
    with pytest.raises(DeviceError, match="INTERP and NULL"):
        a.assign(Tensor(A, device="NULL"))


def test_what_is_assigned_to_a_view_is_assigned_to_the_whole() -> None:
    a = Tensor(A)
    a.T.assign(a.T + 1)
    np.testing.assert_array_equal(a.numpy(), A + 1)
    flat = a.reshape(12)
    flat.assign(flat + 1)
    np.testing.assert_array_equal(flat.numpy(), A.reshape(12) + 2)
    np.testing.assert_array_equal(a.numpy(), A + 2)


class Counting(Interpreter):
    """Counts the kernels it runs; fails at one of them."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.ran: list[Kernel] = []
        self.fail_at = fail_at

    def run(self, kernel: Kernel, inputs: object) -> np.ndarray:
        self.ran.append(kernel)
        if len(self.ran) == self.fail_at:
            raise DeviceError("launch", "on purpose")
        return super().run(kernel, inputs)  # type: ignore[arg-type]


def test_what_was_assigned_on_the_way_is_not_computed_again() -> None:
    a = Tensor(A)
    a.assign((a * 2).sum(0, keepdim=True).expand(3, 4))
    reader, device = a + 1, Counting()
    realize([reader.node], device)
    before = len(device.ran)
    realize([a.node], device)
    assert len(device.ran) == before


def test_a_failing_device_leaves_tensors_as_they_were_to_be_computed_again() -> None:
    a = Tensor(A)
    total = a.sum()
    a.assign(a + total)
    b = a.sum(0)
    for kernel in (1, 2):
        with pytest.raises(DeviceError, match="on purpose"):
            realize([a.node, b.node], Counting(fail_at=kernel))
    assert a.node.op is Op.ASSIGN
    np.testing.assert_array_equal(b.numpy(), (A + A.sum()).sum(0))
    np.testing.assert_array_equal(a.numpy(), A + A.sum())


def test_old_elements_are_let_go_with_their_last_reader() -> None:
    a = Tensor(A)
    old = weakref.ref(a.node)  # the BUFFER: its memory goes with it
    reader = a + 1
    a.assign(a * 2).realize()
    gc.collect()
    assert old() is not None
    del reader
    gc.collect()
    assert old() is None


def test_a_long_chain_of_assignments_is_computed() -> None:
    a = Tensor([0.0])
    for _ in range(2_000):
        a.assign(a + 1)
    assert a.tolist() == [2000.0]
    assert a.dtype is dt.float32
