"""engine.jit: a replayed function does what the function does."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from engine import device, nn
from engine.device.interpreter import Interpreter
from engine.device.null import Null
from engine.errors import CaptureError, DeviceError
from engine.tensor import Tensor
from engine.tracing import Jit, jit

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")


def array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, dtype=np.float32)


def counted(function: Callable[..., Any]) -> tuple[Jit[..., Any], list[int]]:
    """The function under jit, and a list that grows when Python runs it."""
    calls: list[int] = []

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls))
        return function(*args, **kwargs)

    return jit(counting), calls


def test_results_are_those_of_the_plain_call_and_python_runs_twice() -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y).relu().sum(0) + 1

    fast, calls = counted(function)
    for _ in range(5):
        x, y = array(3, 4), array(4, 5)
        np.testing.assert_array_equal(
            fast(Tensor(x), Tensor(y)).numpy(), function(Tensor(x), Tensor(y)).numpy()
        )
    assert len(calls) == 2


def test_results_are_fresh_tensors() -> None:
    double = jit(lambda x: x * 2)
    found = [double(Tensor([float(i)])) for i in range(5)]
    assert [tensor.tolist() for tensor in found] == [[2.0 * i] for i in range(5)]


def test_each_shape_dtype_and_plain_value_is_a_case_of_its_own() -> None:
    scale, calls = counted(lambda x, by, name="a": x * by)
    for n in (3, 4):
        for by in (2, 2.0, True, -0.0, 0.0):
            for _ in range(3):
                x = array(n)
                np.testing.assert_array_equal(scale(Tensor(x), by).numpy(), (Tensor(x) * by).numpy())
    assert len(calls) == 2 * 2 * 5
    scale(Tensor([1, 2, 3]), 2)
    scale(Tensor(array(3)), 2, name="b")
    assert len(calls) == 22


class Model:
    """Linear regression with momentum: all it learns is held in tensors."""

    def __init__(self) -> None:
        self.weight = Tensor(np.linspace(-1, 1, 4, dtype=np.float32).reshape(4, 1))
        self.momentum = Tensor.zeros(4, 1)
        self.steps = Tensor([0])

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        error = x @ self.weight - y
        gradient = x.T @ error * (2 / x.shape[0])
        self.momentum.assign(self.momentum * 0.9 + gradient)
        self.weight.assign(self.weight - self.momentum * 0.05)
        self.steps.assign(self.steps + 1)
        return (error * error).mean()


@pytest.mark.parametrize("name", ["INTERP", "CPU"])
def test_a_training_step_with_momentum_goes_on_across_replays(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEV", name)
    plain, replayed = Model(), Model()
    step = jit(replayed.step)
    for _ in range(8):
        x, y = array(6, 4), array(6, 1)
        wanted = plain.step(Tensor(x), Tensor(y)).realize(plain.weight, plain.momentum)
        got = step(Tensor(x), Tensor(y))
        np.testing.assert_array_equal(got.numpy(), wanted.numpy())
        np.testing.assert_array_equal(replayed.weight.numpy(), plain.weight.numpy())
    assert replayed.steps.tolist() == [8]
    np.testing.assert_array_equal(replayed.momentum.numpy(), plain.momentum.numpy())


def test_a_method_is_bound_and_each_instance_has_its_own_state() -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = Tensor([0])

        @jit
        def add(self, n: Tensor) -> Tensor:
            return self.count.assign(self.count + n)

    first, second = Counter(), Counter()
    for _ in range(4):
        first.add(Tensor([1]))
        second.add(Tensor([10]))
    assert first.count.tolist() == [4]
    assert second.count.tolist() == [40]


def test_what_another_function_assigns_is_seen_and_so_is_what_is_assigned_outside() -> None:
    weight = Tensor([1.0])
    train = jit(lambda by: weight.assign(weight + by))
    evaluate = jit(lambda x: x * weight)
    seen = []
    for _ in range(4):
        train(Tensor([1.0]))
        seen += evaluate(Tensor([10.0])).tolist()
    assert seen == [20.0, 30.0, 40.0, 50.0]
    weight.assign(Tensor([7.0]))
    assert evaluate(Tensor([10.0])).tolist() == [70.0]


def test_an_alias_of_a_weight_keeps_the_old_elements() -> None:
    weight = Tensor([1.0])
    alias = Tensor(weight)
    difference = jit(lambda: weight - alias)
    for n in range(4):
        assert difference().tolist() == [float(n)]
        weight.assign(weight + 1)


def test_a_reader_written_down_before_a_replay_sees_the_old_elements() -> None:
    weight = Tensor([1.0])
    grow = jit(lambda: weight.assign(weight * 2))
    readers = []
    for _ in range(4):
        readers.append(weight + 0)
        grow()
    assert [reader.tolist() for reader in readers] == [[1.0], [2.0], [4.0], [8.0]]


def test_what_is_lazy_outside_is_computed_once_and_changes_when_it_is_assigned() -> None:
    table = Tensor([1.0, 2.0]) * 3
    look = jit(lambda x: x + table)
    for _ in range(3):
        assert look(Tensor([0.0, 0.0])).tolist() == [3.0, 6.0]
    table.assign(table * 2)
    assert look(Tensor([0.0, 0.0])).tolist() == [6.0, 12.0]


def test_realizing_in_the_middle_is_recorded_too() -> None:
    state = Tensor([0.0])

    @jit
    def step(x: Tensor) -> Tensor:
        doubled = (x * 2).realize()
        state.assign(state + doubled).realize()
        return doubled + state

    assert [step(Tensor([float(i)])).tolist() for i in range(5)] == [[0.0], [4.0], [10.0], [18.0], [28.0]]


def test_gradients_that_gather_are_replayed_and_so_are_those_taken_away() -> None:
    """`grad` is a tensor that a tensor has: a replay gives it a new one, as the function would."""
    weight = Tensor([1.0])

    def gather(x: Tensor) -> Tensor:
        weight.grad = x * 2 if weight.grad is None else weight.grad + x * 2
        return weight * x

    def learn() -> None:
        weight.assign(weight - weight.grad)
        weight.grad = None

    fast_gather, calls = counted(gather)
    fast_learn = jit(learn)
    wanted = 1.0
    for _ in range(5):
        for x in (1.0, 2.0, 3.0, 4.0):
            assert fast_gather(Tensor([x])).tolist() == [wanted * x]
        assert weight.grad is not None
        assert weight.grad.tolist() == [20.0]
        fast_learn()
        assert weight.grad is None
        wanted -= 20
    assert weight.tolist() == [wanted]
    assert len(calls) > 2  # with and without a gradient before are recorded apart


class Network:
    """Two layers and an optimizer with state: what a training script has."""

    def __init__(self, optimizer: Callable[[list[Tensor]], Any]) -> None:
        rng = np.random.default_rng(5)
        shapes = ((4, 8), (8,), (8, 1))
        self.weights = [Tensor(rng.standard_normal(n, dtype=np.float32), requires_grad=True) for n in shapes]
        self.optimizer = optimizer(self.weights)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        first, bias, second = self.weights
        loss = (((x @ first + bias).relu() @ second - y) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        return loss


@pytest.mark.parametrize("optimizer", [nn.SGD, nn.Adam])
def test_backward_and_an_optimizer_are_replayed(optimizer: Any) -> None:
    make = (
        (lambda w: nn.SGD(w, lr=0.05, momentum=0.9))
        if optimizer is nn.SGD
        else (lambda w: nn.Adam(w, lr=0.01))
    )
    plain, replayed = Network(make), Network(make)
    step = jit(replayed.step)
    for number in range(6):
        x, y = array(6, 4), array(6, 1)
        wanted = plain.step(Tensor(x), Tensor(y))
        got = step(Tensor(x), Tensor(y))
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-6, err_msg=str(number))
        for a, b in zip(plain.weights, replayed.weights, strict=True):
            np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-6, atol=1e-7)
            np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=1e-5, atol=1e-6)
            assert b.requires_grad
    assert len(step.plans) == 1
    assert not got.requires_grad


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class Batch:
    data: Pair
    names: tuple[str, ...]
    extra: dict[str, list[Tensor]]


def test_tensors_nest_in_arguments_and_results() -> None:
    @jit
    def both(batch: Batch, *, bias: Tensor) -> Batch:
        left, right = batch.data
        return Batch(Pair(right + bias, left), batch.names, {"sum": [left + e for e in batch.extra["e"]]})

    for i in range(4):
        batch = Batch(Pair(Tensor([1.0 * i]), Tensor([2.0])), ("a",), {"e": [Tensor([3.0]), Tensor([4.0])]})
        found = both(batch, bias=Tensor([0.5]))
        assert found.names == ("a",)
        assert isinstance(found.data, Pair)
        assert (found.data.left.tolist(), found.data.right.tolist()) == ([2.5], [1.0 * i])
        assert [t.tolist() for t in found.extra["sum"]] == [[3.0 + i], [4.0 + i]]


def test_an_argument_can_be_assigned_and_the_one_passed_is_changed() -> None:
    grow = jit(lambda t, by: t.assign(t + by))
    first, second = Tensor([1.0]), Tensor([100.0])
    for _ in range(3):
        assert grow(first, Tensor([1.0])) is first
        assert grow(second, Tensor([1.0])) is second
    assert (first.tolist(), second.tolist()) == ([4.0], [103.0])


def test_one_tensor_passed_twice_is_another_case_than_two() -> None:
    def function(a: Tensor, b: Tensor) -> Tensor:
        a.assign(a + 1)
        return a * b

    fast = jit(function)
    for _ in range(3):
        x, y = Tensor([2.0]), Tensor([5.0])
        assert fast(x, y).tolist() == [15.0]
        assert fast(x, x).tolist() == [16.0]


def test_slices_are_assigned_under_jit() -> None:
    cache = Tensor(np.zeros((4, 3), np.float32))
    wanted = np.zeros((4, 3), np.float32)

    @jit
    def put(row: Tensor) -> Tensor:
        cache[1:] = cache[:-1]
        cache[0] = row
        return cache.sum()

    for i in range(6):
        row = array(3)
        wanted[1:] = wanted[:-1].copy()
        wanted[0] = row
        np.testing.assert_allclose(put(Tensor(row)).numpy(), wanted.sum(), rtol=1e-5, err_msg=str(i))
        np.testing.assert_array_equal(cache.numpy(), wanted)


def test_random_numbers_go_on_in_replays_and_beside_them() -> None:
    def function(x: Tensor) -> Tensor:
        return x + Tensor.rand(4) - Tensor.randn(4)

    found: list[list[Any]] = []
    for draw in (function, jit(function)):
        Tensor.manual_seed(7)
        found.append([draw(Tensor([1.0])).tolist() for _ in range(5)] + [Tensor.rand(2).tolist()])
    assert found[0] == found[1]
    assert len({str(drawn) for drawn in found[0]}) == 6


@pytest.mark.parametrize("read", ["numpy", "item", "tolist", "__float__", "__bool__"])
def test_reading_on_the_host_is_refused_and_changes_nothing(read: str) -> None:
    state = Tensor([0.0])

    @jit
    def step(x: Tensor) -> Tensor:
        state.assign(state + x)
        getattr(state, read)()
        return state

    step(Tensor([1.0]))
    with pytest.raises(CaptureError, match=r"numpy\(\) inside a function given to jit"):
        step(Tensor([1.0]))
    assert state.tolist() == [1.0]


def test_an_argument_that_cannot_be_compared_is_named() -> None:
    with pytest.raises(CaptureError, match=r"args\[0\]\['x'\] is a ndarray"):
        jit(lambda batch: batch)({"x": np.zeros(3)})


class Faulty(Interpreter):
    """Fails when told to."""

    name = "FAULTY"
    broken = False

    def run(self, kernel: Any, inputs: Any) -> np.ndarray:
        if self.broken:
            raise DeviceError("launch", "on purpose")
        return super().run(kernel, inputs)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    monkeypatch.setattr(device, "_kinds", dict(device._kinds))
    made = Faulty()
    device.register("FAULTY", lambda part, options: made)
    yield made
    device._canonical.cache_clear()


def test_a_replay_that_fails_changes_no_tensor_and_can_be_repeated(faulty: Faulty) -> None:
    a, b = Tensor([1.0], device="FAULTY"), Tensor([2.0], device="FAULTY")

    @jit
    def step() -> Tensor:
        a.assign(a + 1)
        b.assign(b + a.sum())
        return a + b

    for fails in (False, False, True, False, True):
        faulty.broken = fails
        if fails:
            with pytest.raises(DeviceError, match="on purpose"):
                step()
        else:
            step()
    faulty.broken = False
    assert (a.tolist(), b.tolist()) == ([4.0], [11.0])


def test_a_tensor_from_outside_that_has_another_shape_now_is_recorded_anew() -> None:
    class Holder:
        weight = Tensor([1.0])

    add, calls = counted(lambda x: x + Holder.weight)
    for _ in range(3):
        assert add(Tensor([1.0])).tolist() == [2.0]
    weight = Holder.weight
    weight._held = Tensor([1.0, 2.0]).node
    assert add(Tensor([1.0])).tolist() == [2.0, 3.0]
    assert add(Tensor([1.0])).tolist() == [2.0, 3.0]
    assert len(calls) == 3


def test_one_inside_another_is_recorded_with_it() -> None:
    inner = jit(lambda x: x * 3)
    outer = jit(lambda x: inner(x) + 1)
    assert [outer(Tensor([float(i)])).tolist() for i in range(4)] == [[1.0], [4.0], [7.0], [10.0]]
    assert inner.plans == ()


def test_only_what_results_need_is_replayed() -> None:
    @jit
    def step(x: Tensor) -> Tensor:
        (x * 100).sum().realize()
        return x + 1

    for _ in range(3):
        step(Tensor([1.0]))
    (plan,) = step.plans
    assert len(plan.launches) == 1


def test_plans_keep_no_results_and_no_arguments_alive() -> None:
    double = jit(lambda x: x * 2)
    for _ in range(3):
        x = Tensor([1.0])
        found = double(x)
        seen = [weakref.ref(x.node), weakref.ref(found.node)]
        del x, found
        gc.collect()
        assert [each() for each in seen] == [None, None]


def test_it_works_without_hardware() -> None:
    null = device.get("NULL")
    assert isinstance(null, Null)
    null.clear()
    step = jit(lambda x: (x @ x).sum())
    for _ in range(4):
        step(Tensor(array(8, 8), device="NULL"))
    (*_, last) = null.report().kernels
    assert last.launches == 4


def test_results_that_are_not_tensors_are_those_of_the_recorded_call() -> None:
    step = jit(lambda x: {"loss": x * 2, "name": "loss", "nothing": None})
    for i in range(3):
        found = step(Tensor([float(i)]))
        assert found["loss"].tolist() == [2.0 * i]
        assert (found["name"], found["nothing"]) == ("loss", None)
