"""engine.jit with leading sizes: one recording does for every size what the plain function does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from engine import dtypes, jit, nn
from engine.autograd import no_grad
from engine.device.compiled import Kernels
from engine.runtime.replay import Replay
from engine.sizes import Var
from engine.tensor import Tensor
from tests.engine.leading import Function, elements, is_like, poisoned, rows, same_at_every_size

N = Var("n", 1, 7)
EVERY = (3, 7, *range(1, 8), 2)  # the first calls run and record it
POISONS = (float("nan"), float("inf"))


@pytest.fixture(autouse=True, params=["INTERP", "CPU:LLVM", pytest.param("CPU:C", marks=pytest.mark.slow)])
def _device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", request.param)


FIRST, BIAS, SECOND = rows(6, 16), rows(16), rows(16, 3)


def mlp(x: Tensor) -> Tensor:
    return (x @ Tensor(FIRST) + Tensor(BIAS)).relu() @ Tensor(SECOND)


FORWARD: dict[str, Function] = {
    "mlp": mlp,
    "softmax": lambda x: x.softmax(),
    "softmax over the batch": lambda x: x.softmax(0),
    "layernorm": lambda x: x.layernorm(),
    "statistics of the batch": lambda x: (x.mean(0), x.var(0, correction=0), x.std(1), x.sum(), x.max(0)),
    "products of all and none": lambda x: (x.prod(0), x.min(), (x > 0).all(0), (x > 0).any(), x.argmax(0)),
    "rows beside each other": lambda x: x @ x.T,
    "gram": lambda x: x.T @ x,
    "attention between rows": lambda x: x.scaled_dot_product_attention(x, x, is_causal=True),
    "sorted rows": lambda x: (*x.sort(0), x.argsort(1), x.topk(2, 1)[0]),
    "partial sums": lambda x: (x.cumsum(1), x.cumsum(0)),
    "one row": lambda x: (x[0], x[:1], x[0] + x),
    "columns": lambda x: (x[:, 1], x[:, -1], x[:, ::2], x.flip(1), x.T, x[:, None]),
    "counted": lambda x: (
        x.sum() / x.shape[0],
        x * (2 / x.shape[0]),
        x.numel() - 1 + x,
        x / x.numel() ** 0.5,
    ),
    "counts": lambda x: {"rows": Tensor(x.shape[0]), "twice": [Tensor(2 * x.shape[0]) + x[0, 0].long()]},
    "reshaped": lambda x: (
        x.reshape(x.shape[0], 2, 3),
        x.reshape(-1, 3),
        x.flatten(),
        x.reshape(x.shape[0] * 6),
    ),
    "of a table": lambda x: (Tensor(rows(9, 6))[: x.shape[0]] + x, x[: x.shape[0]]),
    "itself": lambda x: (x, x.reshape(-1, 2)),
    "of its shape": lambda x: (x.zeros_like(), Tensor.ones(x.shape[0], 2).sum(), Tensor.arange(x.shape[0])),
    "masked": lambda x: x.masked_fill(x > 0, 9.0).sum(0),
    "truth": lambda x: (x > 0, (x > 0).sum(), x.isfinite().sum()),
}


@pytest.mark.parametrize("name", FORWARD)
def test_every_size_gives_what_the_plain_function_gives(name: str) -> None:
    for poison in POISONS:
        same_at_every_size(FORWARD[name], lambda n: {"x": rows(n, 6)}, N, EVERY, poison, plainly="INTERP")


def test_a_batch_of_sequences_and_of_images() -> None:
    keys = nn.MultiHeadAttention(8, 2)
    image = nn.Conv2d(2, 3, 3, padding=1)

    def attend(x: Tensor) -> Any:
        return keys(x), x.scaled_dot_product_attention(x, x).mean((0, 1)), x.reshape(-1, 8).layernorm()

    same_at_every_size(attend, lambda n: {"x": rows(n, 4, 8)}, N, (3, 7, 1, 5), tolerance=1e-4)

    def look(x: Tensor) -> Any:
        return image(x).relu().max_pool2d(2).flatten(1), x.batch_statistics(), x.group_norm(2)

    same_at_every_size(look, lambda n: {"x": rows(n, 2, 6, 6)}, N, (3, 7, 1, 5), tolerance=1e-4)


LOSSES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "mse": lambda x, y: x.mse_loss(y),
    "l1 of sums": lambda x, y: x.l1_loss(y, "sum"),
    "cross entropy": lambda x, y: x.cross_entropy(y.abs().sum(1).cast(y[0].argmax().dtype) % 3),
    "soft targets": lambda x, y: x.cross_entropy(y.softmax()),
    "by hand": lambda x, y: ((x - y) ** 2).sum() / x.shape[0],
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients_count_the_rows_there_are(name: str) -> None:
    loss = LOSSES[name]

    def both(x: Tensor, y: Tensor) -> Any:
        found = loss(mlp(x), y)
        return found, found.gradient(*((x, y) if name in ("mse", "by hand") else (x,)))

    same_at_every_size(
        both, lambda n: {"x": rows(n, 6), "y": rows(n, 3, seed=1)}, N, EVERY, tolerance=1e-4, plainly="INTERP"
    )


class Network:
    """Two layers and a norm, and what trains them."""

    def __init__(self, optimizer: Callable[[Any], Any]) -> None:
        Tensor.manual_seed(3)
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3))
        self.optimizer = optimizer(self.layers.parameters())

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.layers(x).mse_loss(y)
        loss.backward()
        self.optimizer.step()
        return loss


@pytest.mark.parametrize("optimizer", [lambda p: nn.SGD(p, 0.05, momentum=0.9), lambda p: nn.Adam(p, 0.01)])
def test_training_on_batches_of_all_sizes_goes_as_without_jit(optimizer: Callable[[Any], Any]) -> None:
    plain, replayed = Network(optimizer), Network(optimizer)
    step = jit(replayed.step, leading={"x": N, "y": N})
    for number, size in enumerate((4, 7, 1, 5, 7, 1, 4)):
        x, y = rows(size, 6, seed=number), rows(size, 3, seed=number + 50)
        is_like(elements(step(Tensor(x), Tensor(y))), elements(plain.step(Tensor(x), Tensor(y))), 1e-4)
        is_like(elements(list(replayed.layers.parameters())), elements(list(plain.layers.parameters())), 1e-4)
        if step.plans:
            poisoned(step, float("nan"))
    assert len(step.plans) == 1


class RowByRow(Network):
    """As the network, from a loss for each row, which nothing returns."""

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        losses = ((self.layers(x) - y) ** 2).mean(1)
        losses.backward(losses.ones_like() / x.shape[0])
        self.optimizer.step()
        return x.sum()


def test_a_loss_for_each_row_trains_as_their_mean() -> None:
    plain, replayed = (kind(lambda p: nn.SGD(p, 0.05)) for kind in (Network, RowByRow))
    step = jit(replayed.step, leading={"x": N, "y": N})
    for number, size in enumerate((4, 7, 1, 5, 7)):
        x, y = rows(size, 6, seed=number), rows(size, 3, seed=number + 50)
        plain.step(Tensor(x), Tensor(y))
        step(Tensor(x), Tensor(y))
        is_like(elements(list(replayed.layers.parameters())), elements(list(plain.layers.parameters())), 1e-4)
    assert len(step.plans) == 1


def test_layers_of_every_kind_take_a_batch_of_any_size() -> None:
    var = Var("n", 2, 6)
    plain, replayed = ([nn.BatchNorm2d(2), nn.Embedding(9, 4), nn.RMSNorm(4)] for _ in range(2))
    with no_grad():
        replayed[1].weight.assign(plain[1].weight * 1)

    def layers(norm: Any, embedding: Any, scale: Any) -> Function:
        def forward(x: Tensor) -> Any:
            places = (x.abs().sum((1, 2, 3)) % 9).cast(dtypes.int64)
            return norm(x), scale(embedding(places)), x.instance_norm(), x.group_norm(1)

        return forward

    fast = jit(layers(*replayed), leading={"x": var})
    for size in (3, 6, 2, 5, 4):
        given = rows(size, 2, 3, 3)
        is_like(elements(fast(Tensor(given))), elements(layers(*plain)(Tensor(given))), 1e-4)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            is_like([getattr(replayed[0], name).numpy()], [getattr(plain[0], name).numpy()], 1e-4)
    assert len(fast.plans) == 1


def test_random_sizes_of_many_rows() -> None:
    var = Var("batch", 2, 300)
    sizes = [2, 300, *np.random.default_rng(0).integers(2, 301, 12).tolist(), 299]

    def both(x: Tensor) -> Any:
        hidden = (x @ Tensor(rows(6, 70))).relu()
        return hidden, hidden.mean(), (hidden**2).sum(0), hidden.softmax()

    same_at_every_size(both, lambda n: {"x": rows(n, 6)}, var, sizes, plainly="INTERP")


def test_two_leading_sizes_are_independent() -> None:
    m = Var("m", 2, 5)

    def both(x: Tensor, y: Tensor) -> Any:
        found = x @ y.T
        return found, found.sum(0), found.mean(1), found.max(), found.softmax(1) @ y

    fast = jit(both, leading={"x": N, "y": m})
    for size, other in ((3, 2), (7, 5), (1, 3), (6, 2), (2, 5), (7, 4)):
        given = rows(size, 6), rows(other, 6, seed=1)
        is_like(elements(fast(*map(Tensor, given))), elements(both(*map(Tensor, given))))
        if fast.plans:
            poisoned(fast, float("nan"))
    assert len(fast.plans) == 1


def test_no_size_but_the_first_two_runs_python_or_makes_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = Kernels.make
    monkeypatch.setattr(Kernels, "make", lambda *given, **named: (made.append(1), make(*given, **named))[1])
    calls: list[int] = []

    def counted(x: Tensor) -> Tensor:
        calls.append(x.ndim)
        return mlp(x).log_softmax()

    fast = jit(counted, leading={"x": N})
    for size in (5, 2, 1):
        fast(Tensor(rows(size, 6)))
    before = len(made)
    for size in EVERY:
        fast(Tensor(rows(size, 6)))
    assert (len(calls), len(made), len(fast.plans)) == (2, before, 1)


def test_only_the_tiles_of_the_rows_there_are_run() -> None:
    var = Var("n", 1, 64)
    fast = jit(mlp, leading={"x": var})
    for _ in range(3):
        fast(Tensor(rows(64, 6)))
    run = fast.plans[0]._run
    if not isinstance(run, Replay):
        return  # the interpreter computes all rows
    limits = [(call.limit, call.tiles) for call in run._calls.calls]
    assert all(limit is not None and tiles > 1 for limit, tiles in limits)
    for limit, tiles in limits:
        assert limit is not None
        assert limit.step * tiles >= 64 > limit.step * (tiles - 1)


def test_dead_rows_are_computed_from_nothing_that_is_read() -> None:
    """Kernels write no further than the last tile of a call: behind it the slab keeps what was there."""
    var = Var("n", 1, 64)
    fast = jit(lambda x: mlp(x).relu() @ Tensor(SECOND.T), leading={"x": var})
    for _ in range(3):
        fast(Tensor(rows(64, 6)))
    run = fast.plans[0]._run
    if not isinstance(run, Replay):
        return
    frame = run._free[0]
    frame.slab.fill(0xAB)
    fast(Tensor(rows(1, 6)))
    written = np.count_nonzero(frame.slab != 0xAB)
    assert 0 < written < frame.slab.size / 2


def test_few_rows_have_a_kernel_of_their_own_where_a_tile_is_of_many() -> None:
    """It is made with the others; from how many rows on the other is quicker the model says."""
    var, weight = Var("n", 1, 128), Tensor(rows(512, 512, seed=3))
    fast = jit(lambda x: x @ weight, leading={"x": var})
    for _ in range(3):
        fast(Tensor(rows(128, 512)))
    run = fast.plans[0]._run
    if not isinstance(run, Replay):
        return
    (call,) = run._calls.calls
    assert call.shorter is not None
    assert call.limit is not None
    assert 1 <= call.shorter.most <= call.limit.step
    for size in (1, 2, call.shorter.most, call.shorter.most + 1, 127, 1):
        poisoned(fast, float("nan"))
        found = fast(Tensor(rows(size, 512))).numpy()
        np.testing.assert_array_equal(found, rows(size, 512) @ weight.numpy())


def test_state_from_outside_is_read_and_assigned_whatever_the_size() -> None:
    total, seen = Tensor([0.0] * 6), Tensor([0])

    @jit(leading={"x": N})
    def gather(x: Tensor) -> Tensor:
        total.assign(total + x.sum(0))
        seen.assign(seen + x.shape[0])
        return total / seen

    wanted = np.zeros(6)
    for size in EVERY:
        found = gather(Tensor(rows(size, 6)))
        wanted += rows(size, 6).sum(0)
        np.testing.assert_array_equal(total.numpy(), wanted)
    assert seen.tolist() == [sum(EVERY)]
    np.testing.assert_allclose(found.numpy(), wanted / sum(EVERY), rtol=1e-5)


def test_an_argument_may_be_assigned_and_have_a_gradient() -> None:
    @jit(leading={"x": N})
    def step(x: Tensor) -> Tensor:
        loss = (x * x).mean()
        loss.backward()
        with no_grad():
            x.assign(x - x.grad)
        return loss

    for size in EVERY:
        values = rows(size, 6)
        x = Tensor(values, requires_grad=True)
        found = step(x)
        np.testing.assert_allclose(found.item(), (values * values).mean(), rtol=1e-5)
        assert x.grad is not None
        np.testing.assert_allclose(x.grad.numpy(), 2 * values / values.size, rtol=1e-5)
        np.testing.assert_allclose(x.numpy(), values - 2 * values / values.size, rtol=1e-5)


def test_gradients_of_an_argument_gather_from_call_to_call() -> None:
    @jit(leading={"x": N})
    def gather(x: Tensor) -> None:
        (x * x).sum().backward()

    for size in EVERY:
        values = rows(size, 6)
        x = Tensor(values, requires_grad=True)
        for times in range(1, 4):
            gather(x)
            assert x.grad is not None
            np.testing.assert_array_equal(x.grad.numpy(), 2 * values * times)


def test_random_numbers_are_those_of_the_plain_function() -> None:
    def drop(x: Tensor) -> Any:
        return x.dropout(0.5), Tensor.rand(x.shape[0], 3), x.randn_like()

    found = []
    for function in (drop, jit(drop, leading={"x": N})):
        Tensor.manual_seed(5)
        found.append([elements(function(Tensor(rows(size, 6)))) for size in EVERY])
    for plain, replayed in zip(*found, strict=True):
        is_like(replayed, plain, 1e-6)


def test_threads_replay_their_own_sizes_at_once() -> None:
    fast = jit(mlp, leading={"x": N})
    inputs = {size: Tensor(rows(size, 6)) for size in range(1, 8)}
    wanted = {size: mlp(x).numpy() for size, x in inputs.items()}
    for _ in range(2):
        fast(inputs[7])
    (plan,) = fast.plans

    def replay(size: int) -> bool:
        return all(
            np.array_equal(plan.replay([inputs[size]]).numpy(), wanted[size]) for _ in range(20)
        ) and np.array_equal(fast(inputs[size]).numpy(), wanted[size])

    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(replay, (1, 7, 3, 5, 2, 6, 4, 1)))


def test_results_that_are_held_are_never_written_over() -> None:
    fast = jit(lambda x: (mlp(x), x), leading={"x": N})
    held = [(size, fast(Tensor(rows(size, 6)))) for size in EVERY]
    for size, found in held:
        is_like(elements(found), [mlp(Tensor(rows(size, 6))).numpy(), rows(size, 6)])


def test_a_short_result_does_not_keep_the_memory_of_the_longest() -> None:
    var = Var("n", 1, 100)
    fast = jit(lambda x: x * 2, leading={"x": var})
    for size in (100, 100, 1):
        found = fast(Tensor(rows(size, 6)))
    held = found.node
    while held.src:
        held = held.src[0]
    assert held.arg[1] == (1, 6)


def test_methods_keywords_and_defaults_find_their_parameters() -> None:
    class Scale:
        by = 3.0

        @jit(leading={"x": N})
        def __call__(self, x: Tensor, *, plus: float = 1.0) -> Tensor:
            return x * self.by + plus

    scale = Scale()
    for size in EVERY:
        np.testing.assert_array_equal(scale(x=Tensor(rows(size, 6))).numpy(), rows(size, 6) * 3 + 1)
        np.testing.assert_array_equal(scale(Tensor(rows(size, 6)), plus=2.0).numpy(), rows(size, 6) * 3 + 2)


def test_cases_differ_by_everything_but_the_leading_size() -> None:
    fast = jit(lambda x, by: x * by, leading={"x": N})
    for size in (2, 3, 4):
        for width, by in ((6, 2), (6, 3), (5, 2)):
            np.testing.assert_array_equal(fast(Tensor(rows(size, width)), by).numpy(), rows(size, width) * by)
    assert len(fast.plans) == 3


def test_inside_another_recording_it_is_part_of_that() -> None:
    inner = jit(lambda x: x * 2, leading={"x": N})
    outer = jit(lambda x: inner(x) + 1, leading={"x": N})
    for size in EVERY:
        np.testing.assert_array_equal(outer(Tensor(rows(size, 6))).numpy(), rows(size, 6) * 2 + 1)


def test_without_hardware_results_have_the_shapes_of_the_call() -> None:
    fast = jit(lambda x: (x * 2, x.sum(0), x @ x.T), leading={"x": N})
    for size in EVERY:
        found = fast(Tensor(rows(size, 6), device="NULL"))
        assert [tensor.shape for tensor in found] == [(size, 6), (6,), (size, size)]
    assert len(fast.plans) == 1
