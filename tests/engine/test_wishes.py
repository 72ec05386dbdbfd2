"""contiguous("local") and contiguous("register"): kept in the kernel that reads it, whatever stands before and after it."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from engine import dtype as dt
from engine import heuristic, wishes
from engine.build import elementwise, param
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.kernel import Kernel
from engine.neighbours import neighbours
from engine.ops import LEVELS, Op
from engine.opts import OptKind
from engine.order import order
from engine.picks import picks
from engine.programs import random_inputs
from engine.runtime.interp import evaluate
from engine.runtime.llvm import LlvmRuntime, detect
from engine.schedule import replay
from engine.serialize import kernel_from_json, kernel_text
from engine.simplify import simplify_all
from engine.stages import values
from engine.tensor import Tensor
from engine.unfold import unfold

Keep = Callable[[Tensor], Tensor]


def kernels_of(result: Tensor) -> list[Kernel]:
    return [step.kernel for step in order(unfold(simplify_all([result._node])))]


def normal(*shape: int) -> Tensor:
    return Tensor.randn(*shape).realize()


def _mean_of_rows(keep: Keep) -> Tensor:
    a = normal(13, 100)
    return a - keep(a.mean(1, keepdim=True))


def _mean_turned(keep: Keep) -> Tensor:
    a = normal(13, 100)
    return (a - keep(a.mean(1).flip(0)).flip(0).reshape(13, 1)) * 2


def _softmax(keep: Keep) -> Tensor:
    x = normal(13, 100)
    powers = keep((x - x.max(1, keepdim=True)).exp())
    return powers / powers.sum(1, keepdim=True)


def _before_a_mean(keep: Keep) -> Tensor:
    h = keep(normal(13, 100).exp())
    return h - h.mean(1, keepdim=True)


def _views_before_and_after(keep: Keep) -> Tensor:
    turned = keep((normal(100, 13) * normal(100, 1)).T.flip(1)).flip(1)
    return turned - turned.mean(1, keepdim=True)


def _every_second(keep: Keep) -> Tensor:
    x = keep(normal(13, 200).reshape(200, 13).T[:, ::2])
    return x / x.square().mean(1, keepdim=True).sqrt()


def _variance(keep: Keep) -> Tensor:
    x = normal(13, 100)
    return keep((x - keep(x.mean(1, keepdim=True))).square()).mean(1)


def _sum_of_all(keep: Keep) -> Tensor:
    x = normal(13, 100)
    return keep(keep(x * x).sum()) + 1


def _bias_behind_a_product(keep: Keep) -> Tensor:
    return (keep(normal(20, 30) @ normal(30, 10)) + keep(normal(10))).relu()


def _in_a_row(keep: Keep) -> Tensor:
    x = normal(40, 50)
    return keep(x * 2) + keep(x.exp()).T.reshape(40, 50)


GRAPHS = {
    function.__name__[1:]: function
    for function in (
        _mean_of_rows,
        _mean_turned,
        _softmax,
        _before_a_mean,
        _views_before_and_after,
        _every_second,
        _variance,
        _sum_of_all,
        _bias_behind_a_product,
        _in_a_row,
    )
}


@pytest.mark.parametrize("level", ["local", "register"])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_level_of_a_kernel_makes_no_kernel_more(name: str, level: str) -> None:
    without = kernels_of(GRAPHS[name](lambda x: x))
    kept = kernels_of(GRAPHS[name](lambda x: x.contiguous(level)))
    assert len(kept) <= len(without)
    assert len(without) == 1 or name == "mean_turned"  # a view across rows: its means are stored either way
    for kernel in kept:
        inputs = random_inputs(kernel, seed=3)
        wanted = evaluate(kernel, inputs)
        for schedule in ((), heuristic.schedule(kernel, detect())):
            found = LlvmRuntime(detect()).prepare(kernel, schedule)(inputs)
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def told(name: str, level: str) -> list[str]:
    found: list[str] = []
    for kernel in kernels_of(GRAPHS[name](lambda x: x.contiguous(level))):
        found += wishes.told(kernel, replay(kernel, heuristic.schedule(kernel, detect())))
    return found


def test_what_passes_over_rows_compute_again_is_kept_a_row_at_a_time() -> None:
    kept = "scratch memory, a row at a time (KEEP)"
    assert told("softmax", "local") == [f"contiguous('local') of EXP: {kept}"]
    assert told("before_a_mean", "local") == [f"contiguous('local') of EXP: {kept}"]
    assert told("views_before_and_after", "local") == [f"contiguous('local') of MUL: {kept}"]
    assert told("every_second", "local") == [f"contiguous('local') of LOAD: {kept}"]


def test_any_other_value_is_staged() -> None:
    lines = told("in_a_row", "local")
    assert [line.split(":")[0] for line in lines] == [
        "contiguous('local') of MUL",
        "contiguous('local') of EXP",
    ]
    assert all(line.endswith("elements inside 0 loops (STAGE)") for line in lines)


def test_a_total_is_in_a_register_already_and_that_is_said() -> None:
    assert "contiguous('local') of REDUCE: registers: it is a total, added up there" in told(
        "sum_of_all", "local"
    )
    assert told("mean_of_rows", "local") == [
        "contiguous('local') of DIV: registers: it is computed from a total, and by one pass only"
    ]


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_wanted_in_registers_is_neither_staged_nor_kept(name: str) -> None:
    assert all(line.endswith(": registers") for line in told(name, "register"))


def test_a_value_too_large_for_scratch_memory_is_staged_in_parts() -> None:
    x = param(0, (1 << 13, 1 << 12), dt.float32)
    kept = UOp(Op.CONTIGUOUS, x.dtype, (elementwise(Op.EXP, x),), "local")
    kernel = Kernel(elementwise(Op.NEG, kept))
    (opt,) = wishes.stages(kernel, ())
    assert (opt.kind, opt.amount) == (OptKind.STAGE, 1)


def test_a_search_keeps_what_the_user_wants_kept() -> None:
    for name in ("softmax", "in_a_row"):
        (kernel,) = kernels_of(GRAPHS[name](lambda x: x.contiguous("local")))
        schedule = heuristic.schedule(kernel, detect())
        heeded = wishes.heeded(kernel, schedule)
        assert heeded
        steps = list(neighbours(kernel, schedule, detect()))
        assert len(steps) > 10
        assert all(heeded <= wishes.heeded(kernel, step) for step in steps)

    a, b = normal(40, 30), normal(30, 50)
    (kernel,) = kernels_of(a @ (b.exp() * 2).contiguous("local"))
    (wanted,) = (value for value in values(kernel) if value.is_wanted)
    target = detect()
    for schedule in (heuristic.schedule(kernel, target), *picks(kernel, target)[:20]):
        assert any(found.value is wanted for found in replay(kernel, schedule).stages)


@pytest.mark.parametrize("level", ["global", "local", "register"])
@pytest.mark.parametrize("device", ["CPU", "CPU:C", "INTERP"])
def test_every_level_is_the_identity_and_so_is_its_gradient(level: str, device: str) -> None:
    a, b = Tensor.rand(20, 30, device=device), Tensor.rand(30, 10, device=device, requires_grad=True)
    kept = (b.exp().contiguous(level) * 3)[:, ::2]
    result = (a @ kept).sum()
    result.backward()
    weights = 3 * np.exp(b.numpy()[:, ::2])
    assert result.item() == pytest.approx((a.numpy() @ weights).sum(), rel=1e-5)
    assert b.grad is not None
    expected = np.zeros((30, 10), np.float32)
    expected[:, ::2] = weights * a.numpy().sum(0)[:, None]
    np.testing.assert_allclose(b.grad.numpy(), expected, rtol=1e-4)


def test_only_global_is_a_kernel_of_its_own() -> None:
    a, b = normal(20, 30), normal(30, 10)
    counts = {level: len(kernels_of(a @ b.exp().contiguous(level))) for level in LEVELS}
    assert counts == {"global": 2, "local": 1, "register": 1}


def test_what_a_product_would_sum_anew_goes_to_memory_and_is_staged_from_there() -> None:
    a, b = normal(20, 30), normal(30, 10)
    total, product = kernels_of(a @ (b / b.sum(0)).contiguous("local"))
    assert (len(total.params), len(product.params)) == (1, 3)
    (wanted,) = (value for value in values(product) if value.is_wanted)
    assert wanted.target == "r0"
    kept = wishes.told(product, replay(product, heuristic.schedule(product, detect())))
    assert [line.split(", ")[0] for line in kept] == ["contiguous('local') of DIV: scratch memory"]


def test_an_unknown_level_is_refused_by_name() -> None:
    with pytest.raises(InvalidGraph, match="level 'cache' must be one of global, local, register"):
        Tensor.rand(3).contiguous("cache")


def test_a_kernel_with_a_kept_value_is_itself_as_json() -> None:
    (kernel,) = kernels_of(normal(4, 3) @ normal(3, 5).contiguous("local"))
    assert kernel_from_json(json.loads(kernel_text(kernel))) == kernel
