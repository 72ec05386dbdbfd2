"""engine.device.null: everything but the hardware, at sizes that no machine of ours has."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest

from engine import dtype as dt
from engine import jit
from engine.build import const, fold
from engine.device import get
from engine.device.null import Null, Report
from engine.device.protocol import Absent
from engine.errors import DeviceError
from engine.ir import UOp
from engine.ops import Op
from engine.options import Options
from engine.programs import program
from engine.realize import elements, hold, realize
from engine.tensor import Tensor

NULLS = ["NULL", "NULL:LLVM", "NULL:C"]


@pytest.fixture(params=NULLS)
def null(request: pytest.FixtureRequest) -> Null:
    found = get(request.param)
    assert isinstance(found, Null)
    found.clear()
    return found


def test_kernels_are_scheduled_rendered_and_counted(null: Null) -> None:
    x, w = (
        Tensor.zeros(64, 32, device=null.name).contiguous(),
        Tensor.ones(32, 16, device=null.name).contiguous(),
    )
    (x @ w).realize()
    report = null.report()
    product = report.kernels[-1].kernel
    assert product.cost.flops == 2 * 64 * 32 * 16
    assert product.cost.bytes == 4 * (64 * 32 + 32 * 16 + 64 * 16)
    assert product.schedule
    assert "kernel" in product.source
    assert report.launches == 3
    assert report.flops == product.cost.flops
    assert report.bytes == product.cost.bytes + 4 * (64 * 32 + 32 * 16)


def test_a_kernel_that_runs_again_is_counted_again(null: Null) -> None:
    for _ in range(3):
        (Tensor(np.ones(5, np.float32), device=null.name) + 1).realize()
    (count,) = null.report().kernels
    assert count.launches == 3
    null.clear()
    assert null.report() == Report(())


def test_it_gives_no_data(null: Null) -> None:
    x = (Tensor([1.0, 2.0], device=null.name) * 2).realize()
    assert x.shape == (2,)
    for read in (
        x.numpy,
        x.tolist,
        x.sum().item,
        lambda: x.to("CPU"),
        lambda: x.reshape(2, 1).to("INTERP").numpy(),
    ):
        with pytest.raises(DeviceError, match="NULL: it computes nothing"):
            read()


def test_nothing_is_allocated(null: Null) -> None:
    tracemalloc.start()
    x = Tensor.ones(1 << 20, 1 << 12, device=null.name).contiguous() + 1
    x.realize()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 64 << 20
    assert isinstance(null.run(program("copy", (1 << 40,)), []), Absent)


def test_a_view_of_more_than_two_to_the_31_elements_is_indexed_with_64_bits(null: Null) -> None:
    n = (1 << 31) + 5
    x = Tensor.ones(3, n, device=null.name).contiguous()
    y = x.permute(1, 0).reshape(n * 3).contiguous() + 1
    y.realize()
    report = null.report()
    assert report.kernels[-1].kernel.cost.bytes == 2 * 4 * 3 * n
    for count in report.kernels:
        assert_64_bit(count.kernel.source)


def assert_64_bit(source: str) -> None:
    """No loop variable, offset or address of a rendered kernel is narrower than 64 bits."""
    if source.startswith("define"):
        offsets = re.findall(r"getelementptr .*, (i\d+) [^,]*$", source, re.MULTILINE)
        counters = re.findall(r"= (?:phi|add|mul|sub)(?: \w+)* (i\d+) ", source)
        assert offsets
        assert set(offsets + counters) == {"i64"}
        assert "to i32" not in source
    else:
        assert "for (int " not in source
        assert "long" in source


@pytest.mark.slow
def test_a_graph_of_100_000_nodes_is_traced_scheduled_and_rendered() -> None:
    null = get("NULL")
    assert isinstance(null, Null)
    null.clear()
    node = hold(np.zeros(4, np.float32))
    other = hold(np.ones(4, np.float32))
    for number in range(50_000):
        node = UOp(Op.ADD if number % 2 else Op.MUL, dt.float32, (node, other))
        node = UOp(Op.SUB, dt.float32, (node, other))
    (found,) = realize([node], null)
    assert null.report().flops == 4 * 100_000
    with pytest.raises(DeviceError):
        elements(found)


def test_what_is_rendered_can_be_chosen_and_fails_like_any_device(null: Null) -> None:
    with pytest.raises(DeviceError, match="no such device"):
        get("NULL:FORTRAN")
    assert null.prepare(program("gemm", (8, 8, 8)), ()).schedule == ()
    assert get("NULL", Options(threads=1)) is not null


def test_what_was_not_computed_is_not_taken_for_another_devices_result(null: Null) -> None:
    """Constants are one node on all devices."""
    kept = Tensor.ones(3, 4, device="INTERP")
    nothing = Tensor.ones(3, 4, device=null.name).realize()
    assert Tensor.ones(3, 4, device="INTERP").tolist() == [[1.0] * 4] * 3
    assert kept.sum().item() == 12.0
    assert jit(lambda: kept + 0)().tolist() == [[1.0] * 4] * 3
    del nothing


def test_a_body_stays_closed_when_a_constant_of_it_was_computed() -> None:
    x = hold(np.arange(4, dtype=np.float32))
    ones = const(1.0, dt.float32, (4,))
    before = Tensor.ones(4, device="INTERP")
    before.realize()
    (total,) = fold(3, [x], [], lambda step, states, parts: [UOp(Op.ADD, dt.float32, (states[0], ones))])
    (found,) = realize([total], get("INTERP"))
    assert elements(found).tolist() == [3.0, 4.0, 5.0, 6.0]
