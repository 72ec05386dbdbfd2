"""engine.torch: what a script finds below it, gradients by autograd.grad, norms, limits of dtypes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engine.torch as torch
from engine.errors import InvalidGraph

ROOT = Path(__file__).parent.parent.parent
IMPORTS = """
import engine.torch as torch
import engine.torch.nn as nn
import engine.torch.nn.functional as F
import engine.torch.optim as optim
from engine.torch.optim.lr_scheduler import StepLR
from engine.torch.nn.utils import clip_grad_norm_
from engine.torch.nn import init
from engine.nn.utils import clip_grad_value_
print(F.relu(torch.tensor([-1.0, 2.0])).tolist(), StepLR is optim.lr_scheduler.StepLR)
"""


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")


def test_a_fresh_process_imports_what_stands_below_torch_in_any_order() -> None:
    for script in (IMPORTS, "from engine.torch.optim.lr_scheduler import LambdaLR\nprint(LambdaLR.__name__)"):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() in ("[0.0, 2.0] True", "LambdaLR")


def test_gradients_are_given_back_and_left_nowhere() -> None:
    x, y = (torch.tensor([2.0, 3.0], requires_grad=True) for _ in range(2))
    (once,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    assert once.tolist() == [12.0, 27.0]
    assert torch.autograd.grad(once.sum(), [x])[0].tolist() == [12.0, 18.0]
    assert (x.grad, once.requires_grad) == (None, True)
    assert not torch.autograd.grad(x.sum(), x)[0].requires_grad
    assert torch.autograd.grad(x.sum(), [x, y], allow_unused=True)[1] is None
    with pytest.raises(InvalidGraph, match=r"no output depends on inputs\[1\]: pass allow_unused"):
        torch.autograd.grad(x.sum(), [x, y])


def test_following_is_switched_on_and_off() -> None:
    x = torch.tensor([1.0], requires_grad=True)
    with torch.no_grad():
        with torch.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    with torch.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    torch.set_grad_enabled(False)
    assert not torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    assert (x * 2).requires_grad


def test_norms_are_numpys() -> None:
    a = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)
    x = torch.tensor(a)
    for ord in (None, "fro", 1, -1, np.inf, -np.inf):
        np.testing.assert_allclose(torch.linalg.norm(x, ord).item(), np.linalg.norm(a, ord), rtol=1e-5)
    for p in (0, 1, 3, np.inf):
        wanted = np.linalg.norm(a, p, axis=1)
        np.testing.assert_allclose(torch.linalg.vector_norm(x, p, dim=1).numpy(), wanted, rtol=1e-5)
    assert torch.norm(x, p="fro").item() == pytest.approx(np.linalg.norm(a), rel=1e-6)
    for call in (
        lambda: torch.norm(x, p="nuc"),
        lambda: torch.linalg.norm(x, 2),
        lambda: torch.linalg.norm(x, "fro", 1),
    ):
        with pytest.raises(InvalidGraph, match=r"is not|is no number|norm of matrices"):
            call()


def test_limits_are_numpys() -> None:
    assert torch.finfo(torch.float32).eps == np.finfo(np.float32).eps
    assert torch.finfo(torch.bfloat16).max == pytest.approx(3.3895e38, rel=1e-4)
    assert (torch.iinfo(torch.uint8).max, torch.iinfo(torch.int64).min) == (255, -(2**63))
    with pytest.raises(InvalidGraph, match="use iinfo"):
        torch.finfo(torch.int8)
    with pytest.raises(InvalidGraph, match="use finfo"):
        torch.iinfo(torch.float16)


def test_where_of_a_condition_alone_gives_places_and_normal_takes_a_size_or_tensors() -> None:
    x = torch.tensor([[1.0, -1.0], [-2.0, 3.0]])
    rows, columns = torch.where(x > 0)
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [0, 1])
    assert torch.where(x > 0, x, 0.0).tolist() == [[1, 0], [0, 3]]
    torch.manual_seed(3)
    drawn = torch.normal(5.0, 0.1, (400,))
    assert abs(drawn.mean().item() - 5) < 0.05
    assert torch.normal(torch.tensor([1.0, 2.0, 3.0]), 0.0).tolist() == [1, 2, 3]
    assert torch.normal(0.0, torch.ones(2, 3)).shape == (2, 3)
    with pytest.raises(TypeError, match="size="):
        torch.normal(0.0, 1.0)


def test_the_gamma_functions_are_right_next_to_zero_on_either_side() -> None:
    for tiny in (1e-3, 1e-12, 1e-20, 1e-30):
        x = torch.tensor([tiny, -tiny])
        np.testing.assert_allclose(torch.lgamma(x).numpy(), -np.log(tiny), rtol=1e-4)
        np.testing.assert_allclose(torch.digamma(x).numpy(), [-1 / tiny, 1 / tiny], rtol=1e-3)


def test_what_scripts_ask_and_set_before_they_begin() -> None:
    torch.backends.cudnn.benchmark = True
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    model = torch.compile(torch.nn.Linear(2, 3).to(torch.device(device)), mode="max-autotune")
    assert model(torch.ones(1, 2, device=device)).shape == (1, 3)

    @torch.compile(fullgraph=True)
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    assert twice(torch.tensor([2])).tolist() == [4]
    assert torch.float16.is_floating_point
    assert not torch.int8.is_floating_point


def test_lists_of_tensors_and_of_numpys_numbers_keep_their_dtypes() -> None:
    for data, dtype in (
        ([torch.tensor(1), 2], torch.int64),
        ([torch.tensor(1.5), torch.tensor(2.0)], torch.float32),
        ([[torch.tensor(True)], [False]], torch.bool),
        ([np.float64(1)], torch.float64),
        ([np.array([1.0, 2.0])], torch.float64),
        ([np.float32(1), 2.5], torch.float32),
        ([1.0, 2], torch.float32),
        ([], torch.float32),
    ):
        assert torch.tensor(data).dtype is dtype, data
    assert torch.tensor([torch.tensor([1, 2]), torch.tensor([3, 4])]).tolist() == [[1, 2], [3, 4]]


def test_numpy_makes_arrays_of_a_tensors_own_dtype() -> None:
    for dtype in ("int64", "float32", "float16", "bool"):
        x = torch.ones(2, dtype=getattr(torch, dtype))
        assert np.asarray(x).dtype == np.array(x).dtype == np.dtype(dtype)
    assert np.asarray(torch.ones(2), dtype=np.int8).dtype == np.int8
    assert np.stack([torch.ones(2), torch.ones(2)]).dtype == np.float32


def test_no_index_at_all_fits_an_axis_of_nothing() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert torch.zeros(0, 3)[none].shape == (0, 3)
    assert torch.zeros(0, 3).index_select(0, none).shape == (0, 3)
    with pytest.raises(IndexError):
        torch.zeros(0, 3)[torch.zeros(1, dtype=torch.int64)]
