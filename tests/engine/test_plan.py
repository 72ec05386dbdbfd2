"""engine.plan on the CPU: what engine.jit recorded runs as a list, and gives what the function gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import device
from engine import dtype as dt
from engine.build import param
from engine.device.cpu import Cpu
from engine.errors import DeviceError
from engine.ir import UOp, substitute, toposort
from engine.kernel import Kernel
from engine.nested import cells_of
from engine.ops import Op
from engine.options import Options, current
from engine.runtime.replay import Replay
from engine.runtime.workers import Threading
from engine.tensor import Tensor
from engine.tracing import Jit, jit
from tests.graphs import random_graph

Array = np.ndarray[Any, np.dtype[Any]]
GRAPHS = 60
QUICK = 8  # of them, in the quick part of the suite
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True, params=["CPU:LLVM", "CPU:C"])
def _device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", request.param)


def array(*shape: int) -> Array:
    return RNG.standard_normal(shape, dtype=np.float32)


def graph_function(seed: int) -> tuple[Callable[..., tuple[Tensor, ...]], list[Array]]:
    """A random graph as a function of tensors, with some of what it computes on the way among its results."""
    arrays: list[Array] = []

    def leaf(values: Array) -> UOp:
        arrays.append(values)
        return param(len(arrays) - 1, values.shape, dt.from_numpy(values.dtype))

    root = random_graph(seed, leaf)
    below = [
        node for node in toposort(root, bodies=False) if node.op is Op.REDUCE and not node.dtype.is_storage
    ]
    roots = (root, *below[::2])

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        params = {node: tensors[node.arg[0]]._value for node in toposort(*roots) if node.op is Op.PARAM}
        return tuple(Tensor._of(substitute(each, params), tensors[0].device) for each in roots)

    return function, arrays


def bits(tensors: Sequence[Tensor]) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in tensors]


def replayed(step: Jit[..., Any]) -> Replay:
    """The list that the only case of a function became."""
    (plan,) = step.plans
    assert isinstance(plan._run, Replay)
    return plan._run


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=() if n < QUICK else pytest.mark.slow) for n in range(GRAPHS)]
)
def test_a_random_graph_gives_in_a_list_what_it_gives_without(seed: int) -> None:
    function, arrays = graph_function(seed)
    fast = jit(function)
    for call in range(5):
        given = [np.roll(values, call) if values.size else values for values in arrays]
        wanted = bits(function(*map(Tensor, given)))
        assert bits(fast(*map(Tensor, given))) == wanted


def mlp(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return ((x @ first).relu() @ second).relu().sum(1) + 1


def test_no_kernel_of_a_list_is_run_by_python(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Kernel] = []
    run = Cpu.run
    monkeypatch.setattr(
        Cpu, "run", lambda self, kernel, inputs: (ran.append(kernel), run(self, kernel, inputs))[1]
    )
    step, weights = jit(mlp), [Tensor(array(8, 16)), Tensor(array(16, 4))]
    for _ in range(2):
        step(Tensor(array(5, 8)), *weights)
    recorded = len(ran)
    assert recorded
    step(Tensor(array(5, 8)), *weights)
    assert len(ran) == recorded


def test_what_is_computed_on_the_way_shares_memory() -> None:
    @jit
    def chain(x: Tensor) -> Tensor:
        for _ in range(20):
            x = (x + 1).contiguous()
        return x * 1

    for start in range(4):
        assert chain(Tensor(np.full(1000, start, np.float32))).tolist() == [start + 20.0] * 1000
    assert replayed(chain).slab_bytes == 2 * -(-4000 // 64) * 64


def test_results_that_are_held_are_never_written_over() -> None:
    step, weights = jit(mlp), [Tensor(array(8, 16)), Tensor(array(16, 4))]
    inputs = [array(5, 8) for _ in range(12)]
    held = [step(Tensor(x), *weights) for x in inputs]
    views = [tensor.numpy() for tensor in held]
    wanted = [mlp(Tensor(x), *weights).numpy() for x in inputs]
    for view, again, right in zip(views, held, wanted, strict=True):
        np.testing.assert_array_equal(view, right)
        np.testing.assert_array_equal(again.numpy(), right)


def test_one_plan_is_replayed_by_several_threads_at_once() -> None:
    step, weights = jit(mlp), [Tensor(array(64, 256)), Tensor(array(256, 64))]
    inputs = [Tensor(array(300, 64)) for _ in range(4)]
    wanted = [mlp(x, *weights).numpy().tobytes() for x in inputs]
    for _ in range(2):
        step(inputs[0], *weights)
    (plan,) = step.plans
    Tensor.realize(*inputs)

    def replay(number: int) -> list[bytes]:
        arguments = list(cells_of(((inputs[number], *weights), {})))
        return [plan.replay(arguments).numpy().tobytes() for _ in range(30)]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(replay, range(4)))
    assert [set(each) for each in found] == [{each} for each in wanted]


def test_a_list_runs_in_a_forked_child() -> None:
    step, weights = jit(mlp), [Tensor(array(64, 256)), Tensor(array(256, 64))]
    x = Tensor(array(300, 64))
    wanted = [step(x, *weights).numpy().tobytes() for _ in range(4)][-1]
    pid = os.fork()
    if pid == 0:
        ok = False
        try:
            ok = all(step(x, *weights).numpy().tobytes() == wanted for _ in range(3))
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_has_no_elements_is_part_of_a_list() -> None:
    @jit
    def step(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nothing = (x[:0] * 2).contiguous()
        return nothing + 1, nothing.sum(), x + nothing.sum()

    for start in range(4):
        empty, zero, same = step(Tensor([float(start), 1.0]))
        assert (empty.shape, zero.item(), same.tolist()) == ((0,), 0.0, [float(start), 1.0])
    assert step.plans[0].launches


def test_inputs_and_constants_can_be_results_and_two_results_one() -> None:
    table = Tensor(np.arange(3, dtype=np.float32))

    @jit
    def step(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y = x * 2
        return x, table, y, y

    for start in range(4):
        found = step(Tensor([float(start)]))
        assert [tensor.tolist() for tensor in found] == [
            [start],
            [0.0, 1.0, 2.0],
            [2.0 * start],
            [2.0 * start],
        ]


def test_kernels_of_several_devices_run_one_by_one() -> None:
    step = jit(lambda x, y: (x + 1, (y * 2).sum(), x.sum()))
    for start in range(4):
        x, y = np.full(5, start, np.float32), np.full(7, -start, np.float32)
        found = step(Tensor(x), Tensor(y, device="INTERP"))
        assert [tensor.tolist() for tensor in found] == [[start + 1.0] * 5, -14.0 * start, 5.0 * start]
    assert len({id(launch.device) for launch in step.plans[0].launches}) == 2


def test_the_number_of_threads_does_not_change_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of whole numbers are exact: schedules, which may differ by the number of threads, do not show."""
    given = [RNG.integers(-4, 4, shape).astype(np.float32) for shape in ((700, 300), (300, 500), (500, 64))]
    found = set()
    for threads in ("1", "2", "3", "5"):
        monkeypatch.setenv("THREADS", threads)
        step = jit(mlp)
        found |= {step(*map(Tensor, given)).numpy().tobytes() for _ in range(4)}
    assert len(found) == 1


class Faulty(Cpu):
    """Its lists fail when told to."""

    broken = False

    def replayed(self, *given: Any, **named: Any) -> Callable[[list[Any]], None]:
        run = super().replayed(*given, **named)

        def failing(memories: list[Any]) -> None:
            run(memories)
            if self.broken:
                raise DeviceError("replay", "on purpose")

        return failing


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Cpu], None]]:
    """Makes a device known by a name for this test."""
    monkeypatch.setattr(device, "_kinds", dict(device._kinds))
    yield lambda name, made: device.register(name, lambda part, options: made)
    device._canonical.cache_clear()


def test_a_list_that_fails_changes_no_tensor_and_can_be_repeated(
    register: Callable[[str, Cpu], None],
) -> None:
    faulty = Faulty(os.environ["DEV"].partition(":")[2], current())
    register("FAULTY", faulty)
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


def test_without_a_c_compiler_a_list_is_run_by_python_and_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], register: Callable[[str, Cpu], None]
) -> None:
    bare = Cpu("LLVM", Options(cache=tmp_path, compiler="no-such-compiler", debug=1, threads=2))
    register("BARE", bare)
    x, weights = array(300, 64), [array(64, 256), array(256, 64)]
    wanted = mlp(*map(Tensor, (x, *weights))).numpy()
    step = jit(mlp)
    for _ in range(4):
        found = step(*(Tensor(each, device="BARE") for each in (x, *weights)))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4)
    assert isinstance(replayed(step), Replay)
    assert bare.workers().threading is Threading.PYTHON
    said = capsys.readouterr().err
    assert "lists of kernels are run by Python: target: CC='no-such-compiler'" in said
    assert (
        f"CPU: a list of 3 kernels, {replayed(step).slab_bytes} bytes for what is computed on the way" in said
    )
