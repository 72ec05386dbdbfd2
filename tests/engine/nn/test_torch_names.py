"""engine.nn by the names of PyTorch's torch.nn and of tinygrad's nn: what they are, hold and refuse."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import engine.nn.functional as F
from engine import Tensor, dtypes, nn, no_grad
from engine.errors import InvalidGraph
from engine.nn.optimizers import Optimizer
from engine.nn.state import get_parameters, get_state_dict, load_state_dict, safe_load, safe_save

X = np.random.default_rng(0).standard_normal((2, 3, 5, 6), dtype=np.float32)


# ----------------------------------------------------------------------------------------------------- containers


class _Model(nn.Module):
    def __init__(self) -> None:
        self.layers = nn.ModuleList([nn.Linear(2, 3), nn.ReLU()])
        self.layers.append(nn.Linear(3, 1))
        self.named = nn.ModuleDict({"a": nn.Linear(1, 1)})
        self.scale = nn.Parameter(Tensor([2.0]))
        self.register_buffer("seen", Tensor([0.0]))
        self.register_buffer("passing", Tensor([0.0]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        found: Tensor = self.named["a"](x) * self.scale
        return found


NAMES = [
    "layers.0.weight",
    "layers.0.bias",
    "layers.2.weight",
    "layers.2.bias",
    "named.a.weight",
    "named.a.bias",
]


def test_lists_and_dicts_of_modules_are_part_of_the_model() -> None:
    model = _Model()
    assert list(model.state_dict()) == ["scale", "seen", *NAMES]
    assert [name for name, _ in model.named_parameters()] == ["scale", *NAMES]
    assert [name for name, _ in model.named_buffers()] == ["seen", "passing"]
    assert [name for name, _ in model.named_children()] == ["layers", "named"]
    model(Tensor([[1.0, 2.0]])).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert [type(layer).__name__ for layer in model.layers[:2]] == ["Linear", "ReLU"]
    model.layers.insert(1, nn.Identity())
    assert [len(model.layers), len(model.named), "a" in model.named] == [4, 1, True]
    assert model.eval().layers[0].training is False


def test_a_sequence_has_names_slices_and_more_than_ten_layers() -> None:
    named = nn.Sequential(OrderedDict(first=nn.Linear(2, 2), second=nn.Tanh()))
    assert list(named.state_dict()) == ["first.weight", "first.bias"]
    assert named(Tensor([[1.0, 2.0]])).shape == (1, 2)
    long = nn.Sequential(*[nn.Linear(1, 1) for _ in range(12)])
    assert len(long[2:]) == 10
    assert long[-1] is list(long)[11]
    one = Tensor([[1.0]])
    np.testing.assert_allclose(long(one).numpy(), long[6:](long[:6](one)).numpy(), rtol=1e-6)


def test_freezing_and_thawing_leaves_buffers_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    names = [name for name, _ in model.named_parameters()]
    model[0].requires_grad_(False)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == names[2:]
    model.requires_grad_(False)
    assert not any(tensor.requires_grad for tensor in model.state_dict().values())
    assert [name for name, _ in model.named_parameters()] == names
    model.requires_grad_()
    assert all(p.requires_grad for p in model.parameters())
    assert [name for name, _ in model.named_parameters()] == names
    assert len(model.buffers()) == 3
    seen: list[nn.Module] = []
    model.apply(seen.append)
    assert seen[-1] is model


# --------------------------------------------------------------------------------------------------------- layers

LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[np.ndarray], np.ndarray]]] = {
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    "Softmax": (lambda: nn.Softmax(dim=1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    "LogSoftmax": (lambda: nn.LogSoftmax(dim=1), lambda x: x - np.log(np.exp(x).sum(1, keepdims=True))),
    "ELU": (lambda: nn.ELU(2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
    "Softplus": (lambda: nn.Softplus(), lambda x: np.log1p(np.exp(x))),
    "PReLU": (lambda: nn.PReLU(3), lambda x: np.where(x > 0, x, 0.25 * x)),
    "Identity": (lambda: nn.Identity(54, unused=1), lambda x: x),
    "Flatten": (lambda: nn.Flatten(2), lambda x: x.reshape(2, 3, 30)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(1), lambda x: x.mean((2, 3), keepdims=True)),
    "MaxPool1d": (lambda: nn.MaxPool1d(2), lambda x: x[0, :, :, :].reshape(3, 5, 3, 2).max(-1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_formula(name: str) -> None:
    make, wanted = LAYERS[name]
    given = X[0] if name == "MaxPool1d" else X
    np.testing.assert_allclose(make()(Tensor(given)).numpy(), wanted(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "numpys"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]
)
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), ((3, 2), (2, 1)), (4, "same")])
def test_a_convolution_pads_in_every_mode(mode: str, numpys: str, kernel: object, padding: object) -> None:
    layer = nn.Conv2d(3, 2, kernel, padding=padding, padding_mode=mode)  # type: ignore[arg-type]
    widths = (
        [(1, 2), (1, 2)]
        if padding == "same"
        else [(n, n) for n in (padding if isinstance(padding, tuple) else (1, 1))]
    )
    padded = np.pad(X, [(0, 0), (0, 0), *widths], numpys)  # type: ignore[call-overload]
    wanted = Tensor(padded).conv2d(layer.weight, layer.bias)
    np.testing.assert_allclose(layer(Tensor(X)).numpy(), wanted.numpy(), rtol=1e-5, atol=1e-6)


def test_the_padding_row_of_an_embedding_is_zeros_and_stays_so() -> None:
    layer = nn.Embedding(4, 3, padding_idx=-1)
    assert layer.weight.requires_grad
    found = layer(Tensor([[0, 3]]))
    assert not found.numpy()[0, 1].any()
    found.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.numpy()[:, 0].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_batch_norm_without_momentum_keeps_the_mean_of_all_batches() -> None:
    layer = nn.BatchNorm2d(3, momentum=None)
    batches = [X + i for i in range(3)]
    for batch in batches:
        layer(Tensor(batch)).realize()
    assert layer.running_mean is not None
    assert layer.running_var is not None
    np.testing.assert_allclose(
        layer.running_mean.numpy(), np.mean([b.mean((0, 2, 3)) for b in batches], 0), rtol=1e-5
    )
    np.testing.assert_allclose(
        layer.running_var.numpy(), np.mean([b.var((0, 2, 3), ddof=1) for b in batches], 0), rtol=1e-5
    )


def test_attention_looks_where_it_may_and_says_where() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    x = Tensor(np.random.default_rng(1).standard_normal((2, 4, 8), dtype=np.float32))
    ahead = Tensor.ones(4, 4).triu(1).bool()
    found, weights = layer(x, x, x, attn_mask=ahead)
    assert (found.shape, weights.shape) == ((2, 4, 8), (2, 4, 4))
    np.testing.assert_allclose(weights.sum(-1).numpy(), 1, rtol=1e-6)
    assert not np.triu(weights.numpy(), 1).any()
    same, none = layer(x, x, x, need_weights=False, is_causal=True)
    assert none is None
    np.testing.assert_allclose(same.numpy(), found.numpy(), rtol=1e-5, atol=1e-6)
    turned = nn.MultiheadAttention(8, 2)
    turned.load_state_dict(layer.state_dict())
    other, _ = turned(*[x.transpose(0, 1)] * 3, attn_mask=ahead)
    np.testing.assert_allclose(other.transpose(0, 1).numpy(), found.numpy(), rtol=1e-5, atol=1e-6)
    assert list(layer.state_dict()) == ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]


def test_functions_by_pytorchs_names() -> None:
    rows = Tensor(X[0, 0])
    np.testing.assert_allclose(F.normalize(rows).norm(dim=1).numpy(), 1, rtol=1e-6)
    np.testing.assert_allclose(F.cosine_similarity(rows, rows * 3).numpy(), 1, rtol=1e-6)
    np.testing.assert_allclose(F.softmin(rows, 1).numpy(), F.softmax(-rows, dim=1).numpy())
    weight = Tensor(X[0].reshape(1, 3, 5, 6))[:, :, :2, :3]
    by_columns = weight.reshape(1, -1) @ F.unfold(Tensor(X), (2, 3))
    np.testing.assert_allclose(
        by_columns.reshape(2, 1, 4, 4).numpy(), F.conv2d(Tensor(X), weight).numpy(), rtol=1e-4, atol=1e-5
    )


# ---------------------------------------------------------------------------------------------------------- errors

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a negative width": (lambda: nn.Linear(-1, 4), "in_features: -1 must be a whole number"),
    "a float width": (lambda: nn.Linear(4, 2.5), "out_features: 2.5 must be"),  # type: ignore[arg-type]
    "negative channels": (lambda: nn.Conv2d(3, -1, 2), "out_channels: -1"),
    "a negative table": (lambda: nn.Embedding(-3, 2), "num_embeddings: -3"),
    "no such row": (lambda: nn.Embedding(3, 2, padding_idx=3), "padding_idx: 3 is not one of the 3 rows"),
    "no such mode": (
        lambda: nn.Conv2d(1, 1, 1, padding_mode="mirror"),
        "padding_mode: 'mirror' is not one of zeros",
    ),
    "other channels": (
        lambda: nn.BatchNorm2d(4)(Tensor(X)),
        r"BatchNorm2d: is for 4 channels \(axis 1\), x has",
    ),
    "two axes": (lambda: nn.BatchNorm2d(3)(Tensor(X[:, :, 0, 0])), "BatchNorm2d: takes .* of 4 axes, not"),
    "four axes": (lambda: nn.BatchNorm1d(3)(Tensor(X)), "BatchNorm1d: takes .* of 2 or 3 axes"),
    "other instances": (lambda: nn.InstanceNorm2d(4)(Tensor(X)), "InstanceNorm2d|InstanceNorm: is for 4"),
    "a state of words": (
        lambda: nn.Linear(1, 1).load_state_dict({"weight": "w", "bias": 3}),
        "weight is str, not a Tensor or an array; bias is int",
    ),
    "no state": (lambda: nn.Linear(1, 1).load_state_dict([1]), "takes tensors by name"),  # type: ignore[arg-type]
    "words to save": (lambda: safe_save({"a": "b"}, "/dev/null"), "safe_save: 'a' is str: only Tensors"),  # type: ignore[dict-item]
    "a folder": (lambda: safe_load(Path(__file__).parent), "is a folder: name the .safetensors file in it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_by_name(name: str) -> None:
    wrong, message = WRONG[name]
    with pytest.raises(InvalidGraph, match=message):
        wrong()


# ------------------------------------------------------------------------------------------------------ optimizers

OPTIMIZERS: dict[str, Callable[[list[Tensor]], Optimizer]] = {
    "SGD": lambda p: nn.SGD(p, lr=0.005),
    "momentum": lambda p: nn.SGD(p, lr=0.005, momentum=0.9, nesterov=True),
    "Adam": lambda p: nn.Adam(p, lr=0.05),
    "amsgrad": lambda p: nn.Adam(p, lr=0.05, amsgrad=True),
    "AdamW": lambda p: nn.AdamW(p, lr=0.05),
}


def _leaves() -> list[Tensor]:
    return [Tensor([1.0, -2.0], requires_grad=True), Tensor([3.0], requires_grad=True)]


def _step(optimizer: Optimizer, leaves: list[Tensor], number: int) -> None:
    optimizer.zero_grad()
    loss = (leaves[0] ** 4).sum() * (1 + number % 3)
    (
        loss + (leaves[1] ** 2).sum() if number % 2 else loss
    ).backward()  # the second has a gradient now and then
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_from_its_state(name: str) -> None:
    whole, first, second = _leaves(), _leaves(), _leaves()
    optimizer, before, after = (OPTIMIZERS[name](leaves) for leaves in (whole, first, second))
    for number in range(9):
        _step(optimizer, whole, number)
        if number < 5:
            _step(before, first, number)
    with no_grad():
        for own, other in zip(second, first, strict=True):
            own.assign(other.numpy())
    after.param_groups[0]["lr"] = 9.0
    after.load_state_dict(before.state_dict())
    for number in range(5, 9):
        _step(after, second, number)
    assert [leaf.tolist() for leaf in second] == [leaf.tolist() for leaf in whole]
    assert after.param_groups[0].lr == optimizer.param_groups[0].lr


def test_a_state_of_other_parameters_is_refused() -> None:
    optimizer = nn.Adam(_leaves())
    _step(optimizer, optimizer.param_groups[0]["params"], 1)
    with pytest.raises(InvalidGraph, match=r"groups of \[2\] parameters do not fit those of \[1\]"):
        nn.Adam(_leaves()[:1]).load_state_dict(optimizer.state_dict())
    with pytest.raises(
        InvalidGraph, match=r"has the shape \(1,\), its parameter \(2,\)|has the shape \(2,\)"
    ):
        nn.Adam(_leaves()[::-1]).load_state_dict(optimizer.state_dict())


def test_adam_counts_the_steps_of_each_parameter() -> None:
    leaves = _leaves()
    optimizer = nn.Adam(leaves)
    for number in range(6):
        _step(optimizer, leaves, number)
    state = optimizer.state_dict()["state"]
    assert [state[number]["step"].item() for number in (0, 1)] == [6.0, 3.0]


# --------------------------------------------------------------------------------------------------- as in tinygrad


class _Plain:
    """A model as tinygrad's are: no base class."""

    def __init__(self) -> None:
        self.l1, self.bn = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.scale = Tensor.ones(3)
        self.parts = [self]

    def __call__(self, x: Tensor) -> Tensor:
        return self.bn(self.l1(x)) * self.scale  # type: ignore[no-any-return]


def test_a_plain_objects_tensors_are_found_saved_and_loaded(tmp_path: Path) -> None:
    model, other = _Plain(), _Plain()
    names = ["l1.weight", "l1.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    assert list(get_state_dict(model)) == [*names, "bn.num_batches_tracked", "scale"]
    assert len(get_parameters(model)) == 5  # not the running statistics
    safe_save(get_state_dict(model), tmp_path / "model.safetensors")
    load_state_dict(other, safe_load(tmp_path / "model.safetensors"))
    assert other.l1.weight.tolist() == model.l1.weight.tolist()


def test_training_is_what_happens_within_tensor_train() -> None:
    before = Tensor.training
    try:
        model, x = _Plain(), Tensor(np.random.default_rng(3).standard_normal((8, 4), dtype=np.float32))
        optimizer = nn.optim.Adam(get_parameters(model), lr=0.1)
        with Tensor.train():
            for _ in range(3):
                optimizer.zero_grad()
                loss = (model(x) ** 2).mean().backward()
                optimizer.step()
        assert loss.item() >= 0  # as in tinygrad, backward() gives the loss back
        assert model.bn.num_batches_tracked is not None
        assert model.bn.num_batches_tracked.item() == 3
        model(x).realize()
        with Tensor.test():
            assert not model(x).requires_grad
        assert model.bn.num_batches_tracked.item() == 3
        assert nn.Dropout(0.5)(x).tolist() == x.tolist()
        assert x.dropout(0.5).tolist() == x.tolist()
        assert x.dropout(0.999, training=True).tolist() != x.tolist()
        Tensor.training = True
        assert nn.Dropout(0.999)(x).tolist() != x.tolist()
        assert x.dropout(0.999).tolist() != x.tolist()
    finally:
        Tensor.training = before
    assert dtypes.float32 is x.dtype


# -------------------------------------------------------------------------------- what a training script also calls


def test_a_model_moves_and_changes_its_floats_with_its_optimizer_none_the_wiser() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = model[0].weight.numpy()
    optimizer = nn.SGD(model.parameters(), lr=0.1)
    assert model.double() is model
    assert {t.dtype for t in model.state_dict().values()} == {dtypes.float64, dtypes.int64}
    np.testing.assert_array_equal(model[0].weight.numpy(), before.astype(np.float64))
    model[0](Tensor([[1.0, 2.0], [3.0, 4.0]]).double()).sum().backward()
    optimizer.step()
    assert (model[0].weight.numpy() != before).any()
    assert model.to("CPU").cpu().parameters()[0].device == "CPU"
    assert all(p.requires_grad and p.is_leaf for p in model.float().parameters())
    assert repr(model).splitlines()[:2] == ["Sequential(", "  (0): Linear(in_features=2, out_features=2)"]


@pytest.mark.parametrize("norm_type", [1.0, 2.0, float("inf")])
def test_gradients_are_clipped_as_one_vector(norm_type: float) -> None:
    leaves = _leaves()
    ((leaves[0] ** 3).sum() + (leaves[1] ** 2).sum()).backward()
    flat = np.concatenate([leaf.grad.numpy() for leaf in leaves if leaf.grad is not None])
    total = nn.utils.clip_grad_norm_(leaves, 1.5, norm_type)
    assert total.item() == pytest.approx(np.linalg.norm(flat, norm_type), rel=1e-6)
    clipped = np.concatenate([leaf.grad.numpy() for leaf in leaves if leaf.grad is not None])
    np.testing.assert_allclose(clipped, flat * 1.5 / total.item(), rtol=1e-5)
    nn.utils.clip_grad_value_(leaves, 0.1)
    assert leaves[0].grad is not None
    assert np.abs(leaves[0].grad.numpy()).max() <= 0.1 + 1e-7


def test_parameters_become_a_vector_and_a_vector_parameters() -> None:
    layer = nn.Linear(2, 3)
    nn.utils.vector_to_parameters(Tensor.arange(9).float(), layer.parameters())
    assert layer.weight.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert layer.bias is not None
    assert layer.bias.tolist() == [6, 7, 8]
    assert nn.utils.parameters_to_vector(layer.parameters()).tolist() == list(range(9))
    with pytest.raises(InvalidGraph, match=r"vec: \(8,\) is not one element for each of the parameters' 9"):
        nn.utils.vector_to_parameters(Tensor.zeros(8), layer.parameters())


def test_weights_are_filled_in_place() -> None:
    weight = nn.Linear(300, 200).weight
    assert nn.init.xavier_uniform_(weight) is weight
    assert weight.requires_grad
    assert weight.numpy().std() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert nn.init.kaiming_normal_(weight, nonlinearity="relu").numpy().std() == pytest.approx(
        (2 / 300) ** 0.5, rel=0.02
    )
    bound = (6 / 200) ** 0.5
    assert abs(nn.init.kaiming_uniform_(weight, mode="fan_out").numpy()).max() == pytest.approx(
        bound, rel=0.01
    )
    assert nn.init.normal_(weight, 3.0, 0.1).numpy().mean() == pytest.approx(3.0, abs=0.01)
    assert nn.init.uniform_(weight, 1, 2).numpy().min() >= 1
    assert set(nn.init.constant_(weight, 7).numpy().ravel()) == {7.0}
    assert nn.init.zeros_(weight).sum().item() + nn.init.ones_(weight).mean().item() == 1.0
    assert nn.init.xavier_normal_(weight, gain=2).numpy().std() == pytest.approx(
        2 * (2 / 500) ** 0.5, rel=0.02
    )
    with pytest.raises(InvalidGraph, match="nonlinearity: 'step' is not"):
        nn.init.calculate_gain("step")
    with pytest.raises(InvalidGraph, match="mode: 'fan' is not fan_in or fan_out"):
        nn.init.kaiming_normal_(weight, mode="fan")


def test_an_optimizer_calls_a_closure_climbs_and_takes_more_parameters() -> None:
    x, y = Tensor([1.0], requires_grad=True), Tensor([2.0], requires_grad=True)
    optimizer = nn.SGD([x], lr=0.5, maximize=True)

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = (x * y).sum()
        found.backward(retain_graph=True)
        return found

    assert optimizer.step(loss).item() == 2.0
    assert (x.item(), y.item()) == (2.0, 2.0)
    optimizer.add_param_group({"params": [y], "lr": 1.0})
    optimizer.step(loss)
    assert (x.item(), y.item()) == (3.0, 4.0)
    with pytest.raises(InvalidGraph, match="one is given twice"):
        optimizer.add_param_group({"params": [x]})
    with pytest.raises(InvalidGraph, match=r"create_graph: .* use .gradient"):
        (x * x).sum().backward(create_graph=True)


def test_channels_become_squares_and_back() -> None:
    x = Tensor(np.random.default_rng(1).standard_normal((2, 8, 3, 5), dtype=np.float32))
    wide = F.pixel_shuffle(x, 2)
    assert wide.shape == (2, 2, 6, 10)
    assert (
        wide.numpy()[1, 1, 3, 4] == x.numpy()[1, 4 + 2, 1, 2]
    )  # row 3 is odd, column 4 even: the third of its four
    np.testing.assert_array_equal(F.pixel_unshuffle(wide, 2).numpy(), x.numpy())
    chosen = F.gumbel_softmax(x, hard=True, dim=1).numpy()
    np.testing.assert_allclose(chosen.sum(1), 1, rtol=1e-6)
    with pytest.raises(InvalidGraph, match="pixel_shuffle: 8 channels are no squares of 3"):
        F.pixel_shuffle(x, 3)


def test_batch_norm_as_a_function_moves_the_running_statistics() -> None:
    mean, spread = Tensor.zeros(3).realize(), Tensor.ones(3).realize()
    x = Tensor(np.arange(12, dtype=np.float32).reshape(4, 3))
    found = F.batch_norm(x, mean, spread, training=True, momentum=0.5).numpy()
    np.testing.assert_allclose(found.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(mean.numpy(), [2.25, 2.75, 3.25])
    np.testing.assert_allclose(spread.numpy(), 8.0)
    F.batch_norm(x, mean, spread)
    np.testing.assert_allclose(mean.numpy(), [2.25, 2.75, 3.25])


def test_rms_norm_of_bfloat16_has_the_eps_of_float32() -> None:
    tenths = (Tensor.ones(1, 4) * 0.1).cast(dtypes.bfloat16)
    assert F.rms_norm(tenths, (4,)).cast(dtypes.float32).numpy().tolist() == [[1.0] * 4]
