"""Layers against NumPy, their gradients against differences, and their initial distributions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine import dtype as dt
from engine import jit, nn
from engine.errors import InvalidGraph
from engine.nn.module import Module
from engine.tensor import Tensor

Array = np.ndarray


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def standard(x: Array, axes: tuple[int, ...], eps: float = 1e-5) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def scaled(layer: Module, seed: int = 9) -> Module:
    """The layer with parameters that are not just ones and zeros."""
    for number, parameter in enumerate(layer.parameters()):
        parameter.requires_grad = False
        parameter.assign(Tensor(normal(*parameter.shape, seed=seed + number), dtype=parameter.dtype))
        parameter.requires_grad = True
    return layer


def close(got: Tensor, wanted: Array, tolerance: float = 1e-9) -> None:
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got.numpy().astype(np.float64), wanted, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------- what layers compute


def test_a_linear_layer_multiplies_by_its_weight_and_adds_its_bias() -> None:
    x = normal(2, 5, 3)
    layer = nn.Linear(3, 4, dtype=dt.float64)
    assert layer.bias is not None
    close(layer(Tensor(x)), x @ layer.weight.numpy().T + layer.bias.numpy())
    plain = nn.Linear(3, 4, bias=False, dtype=dt.float64)
    close(plain(Tensor(x)), x @ plain.weight.numpy().T)
    with pytest.raises(InvalidGraph, match="3 rows"):
        layer(Tensor(normal(2, 4)))


def test_an_embedding_gives_rows_and_zeros_where_there_is_none() -> None:
    layer = nn.Embedding(5, 3)
    index = np.array([[0, 4, 0], [2, 7, -1]])
    with pytest.raises(IndexError, match="Embedding: index 7 is out of range for axis 0 of size 5"):
        layer(Tensor(index))
    found = layer(Tensor(index) + 0)  # not computed yet: nobody can look
    wanted = np.concatenate([layer.weight.numpy(), np.zeros((1, 3))])[
        np.where((index < 0) | (index > 4), 5, index)
    ]
    close(found, wanted)
    found.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.numpy()[:, 0].tolist() == [2.0, 0.0, 1.0, 0.0, 1.0]
    with pytest.raises(InvalidGraph, match="float32"):
        layer(Tensor([1.0]))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (2, 3, 4, 5), (2, 3, 2, 2, 3)])
def test_batch_norm_takes_each_channel_over_the_batch_and_moves_its_statistics(
    shape: tuple[int, ...],
) -> None:
    x = normal(*shape)
    layer = nn.BatchNorm(3, momentum=0.3, dtype=dt.float64)
    axes = (0, *range(2, len(shape)))
    close(layer(Tensor(x)), standard(x, axes), 1e-6)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    close(layer.running_mean, 0.3 * x.mean(axes), 1e-6)
    close(layer.running_var, 0.7 + 0.3 * x.var(axes, ddof=1), 1e-6)
    assert layer.num_batches_tracked.item() == 1
    along = (-1, *[1] * (len(shape) - 2))
    mean, variance = (
        t.numpy().astype(np.float64).reshape(along) for t in (layer.running_mean, layer.running_var)
    )
    layer.eval()
    close(layer(Tensor(x)), (x - mean) / np.sqrt(variance + 1e-5), 1e-6)
    assert layer.num_batches_tracked.item() == 1


def test_batch_norm_without_statistics_uses_the_batchs_always() -> None:
    x = normal(4, 3)
    layer = nn.BatchNorm(3, affine=False, track_running_stats=False)
    layer.eval()
    assert layer.state_dict() == {}
    close(layer(Tensor(x)), standard(x, (0,)))
    with pytest.raises(InvalidGraph, match="more than one value a channel"):
        nn.BatchNorm(3)(Tensor(normal(1, 3)))


def test_running_statistics_do_not_carry_a_graph_from_step_to_step() -> None:
    layer = nn.BatchNorm(2)
    optimizer = nn.SGD(layer.parameters())
    for seed in range(3):
        layer(Tensor(normal(4, 2, seed=seed))).sum().backward()
        optimizer.step()
        assert layer.running_mean is not None
        assert "realized" in repr(layer.running_mean)
        assert not layer.running_mean.requires_grad


@pytest.mark.parametrize("shape", [(5,), (4, 5)])
def test_layer_and_rms_norm_take_the_last_axes(shape: tuple[int, ...]) -> None:
    x = normal(2, 3, 4, 5)
    axes = tuple(range(4 - len(shape), 4))
    layer = scaled(nn.LayerNorm(shape, dtype=dt.float64))
    assert isinstance(layer, nn.LayerNorm)
    assert layer.weight is not None
    assert layer.bias is not None
    close(layer(Tensor(x)), standard(x, axes) * layer.weight.numpy() + layer.bias.numpy())
    root = scaled(nn.RMSNorm(shape, eps=1e-3, dtype=dt.float64))
    assert isinstance(root, nn.RMSNorm)
    assert root.weight is not None
    mean_square = (x * x).mean(axes, keepdims=True)
    close(root(Tensor(x)), x / np.sqrt(mean_square + 1e-3) * root.weight.numpy())
    with pytest.raises(InvalidGraph, match="does not end in"):
        layer(Tensor(normal(5, 4)))


def test_group_and_instance_norm_take_each_example_by_itself() -> None:
    x = normal(2, 6, 4, 5)
    layer = scaled(nn.GroupNorm(3, 6, dtype=dt.float64))
    assert isinstance(layer, nn.GroupNorm)
    assert layer.weight is not None
    assert layer.bias is not None
    wanted = standard(x.reshape(2, 3, -1), (2,)).reshape(x.shape)
    along = (layer.weight.numpy().reshape(-1, 1, 1), layer.bias.numpy().reshape(-1, 1, 1))
    close(layer(Tensor(x)), wanted * along[0] + along[1])
    close(nn.InstanceNorm(6)(Tensor(x)), standard(x, (2, 3)))
    with pytest.raises(InvalidGraph, match="equal groups"):
        nn.GroupNorm(4, 6)


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16])
def test_statistics_of_16_bit_floats_are_taken_in_float32(dtype: dt.DType) -> None:
    x = Tensor(normal(2, 600) * 300 + 1000, dtype=dtype)
    wanted = standard(x.numpy().astype(np.float64), (1,))
    found = nn.LayerNorm(600)(x)
    assert found.dtype is dtype
    close(found, wanted, 2e-2)


def test_dropout_drops_in_training_only_and_keeps_the_mean() -> None:
    layer = nn.Dropout(0.25)
    x = Tensor(np.ones(4000, np.float32))
    found = layer(x).numpy()
    assert set(np.unique(found)) == {0.0, np.float32(4 / 3)}
    assert 0.2 < (found == 0).mean() < 0.3
    assert layer.eval()(x) is x
    assert nn.Dropout(1.0)(x).numpy().max() == 0
    replayed = jit(layer.train())
    masks = [replayed(x).numpy().tobytes() for _ in range(4)]
    assert len(set(masks)) == 4
    with pytest.raises(InvalidGraph, match="no probability"):
        nn.Dropout(1.5)


# ----------------------------------------------------------------------------------------- convolutions


def convolved(x: Array, weight: Array, stride: int, padding: int, dilation: int, groups: int) -> Array:
    """Each output summed by itself, whatever the number of axes."""
    axes = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *[(padding, padding)] * axes])
    kernel, share = weight.shape[2:], weight.shape[0] // groups
    places = [(n - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(x.shape[2:], kernel, strict=True)]
    found = np.zeros((len(x), len(weight), *places))
    for place in np.ndindex(*places):
        window = tuple(
            slice(p * stride, p * stride + dilation * (k - 1) + 1, dilation)
            for p, k in zip(place, kernel, strict=True)
        )
        for out in range(len(weight)):
            first = out // share * weight.shape[1]
            part = x[(slice(None), slice(first, first + weight.shape[1]), *window)]
            found[(slice(None), out, *place)] = (part * weight[out]).sum(tuple(range(1, part.ndim)))
    return found


@pytest.mark.parametrize(("kind", "shape"), [(nn.Conv1d, (9,)), (nn.Conv2d, (6, 7)), (nn.Conv3d, (4, 5, 6))])
@pytest.mark.parametrize("geometry", [(1, 0, 1, 1), (2, 1, 1, 2), (1, 2, 2, 1)])
def test_a_convolution_sums_windows(
    kind: type[nn.Conv2d], shape: tuple[int, ...], geometry: tuple[int, int, int, int]
) -> None:
    x = normal(2, 4, *shape)
    layer = scaled(kind(4, 6, 2, *geometry, dtype=dt.float64))
    assert isinstance(layer, kind)
    assert layer.bias is not None
    bias = layer.bias.numpy().reshape(-1, *[1] * len(shape))
    close(layer(Tensor(x)), convolved(x, layer.weight.numpy(), *geometry) + bias)


@pytest.mark.parametrize(("kind", "shape"), [(nn.ConvTranspose1d, (5,)), (nn.ConvTranspose2d, (4, 3))])
@pytest.mark.parametrize("geometry", [(1, 0, 0, 1), (2, 1, 1, 2), (3, 1, 0, 1)])
def test_a_transposed_convolution_is_the_gradient_of_a_convolution(
    kind: type[nn.ConvTranspose2d], shape: tuple[int, ...], geometry: tuple[int, int, int, int]
) -> None:
    stride, padding, extra, groups = geometry
    y = normal(2, 4, *shape)
    layer = kind(4, 6, 3, stride, padding, extra, groups, bias=False, dtype=dt.float64)
    found = layer(Tensor(y))
    x = Tensor(normal(*found.shape), requires_grad=True)
    forward = x.conv1d if len(shape) == 1 else x.conv2d
    forward(layer.weight.detach(), None, stride, padding, 1, groups).backward(Tensor(y))
    assert x.grad is not None
    close(found, x.grad.numpy())


def test_channels_that_are_no_equal_groups_are_refused() -> None:
    with pytest.raises(InvalidGraph, match="4 and 6 channels are not 4 equal groups"):
        nn.Conv2d(4, 6, 3, groups=4)
    with pytest.raises(InvalidGraph, match="kernel_size"):
        nn.Conv2d(4, 6, (3, 3, 3))


# ------------------------------------------------------------------------------------------- attention


def attention_by_numpy(q: Array, k: Array, v: Array, allowed: Array) -> Array:
    times = q.shape[-3] // k.shape[-3]
    k, v = np.repeat(k, times, -3), np.repeat(v, times, -3)
    scores = np.where(allowed, q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("how", ["all", "causal", "masked", "added"])
def test_attention_weighs_values_by_how_keys_fit(kv_heads: int, how: str) -> None:
    q, k, v = normal(2, 4, 5, 6), normal(2, kv_heads, 7, 6, seed=1), normal(2, kv_heads, 7, 3, seed=2)
    allowed = np.tri(5, 7, dtype=bool) if how == "causal" else normal(5, 7, seed=3) > -0.5
    allowed[:, 0] = True
    allowed = np.ones((5, 7), bool) if how == "all" else allowed
    mask = {"masked": Tensor(allowed), "added": Tensor(np.where(allowed, 0.0, -np.inf))}.get(how)
    found = Tensor(q).scaled_dot_product_attention(
        Tensor(k), Tensor(v), mask, is_causal=how == "causal", enable_gqa=True
    )
    close(found, attention_by_numpy(q, k, v, allowed))


def test_heads_that_cannot_share_keys_are_refused() -> None:
    with pytest.raises(InvalidGraph, match="cannot divide"):
        nn.MultiHeadAttention(8, 4, kv_heads=3)


def test_rotation_keeps_lengths_and_products_depend_on_distance_only() -> None:
    tables = nn.rotary(16, 6, dtype=dt.float64)
    a, b = normal(6), normal(6, seed=1)
    turned = [nn.rotate(Tensor(np.tile(x, (16, 1))), tables).numpy() for x in (a, b)]
    np.testing.assert_allclose(np.linalg.norm(turned[0], axis=1), np.linalg.norm(a))
    products = turned[0] @ turned[1].T
    for distance in range(-5, 6):
        np.testing.assert_allclose(np.diagonal(products, distance), products.diagonal(distance)[0])
    np.testing.assert_allclose(turned[0][0], a)


def test_rotation_turns_each_pair_by_its_own_angle() -> None:
    x = np.array([[1.0, 2.0, 3.0, 4.0]] * 3)
    found = nn.rotate(Tensor(x), nn.rotary(3, 4, base=100.0, dtype=dt.float64)).numpy()
    for position in range(3):
        for pair, angle in enumerate((position, position / 10)):
            turned = complex(x[0, pair], x[0, pair + 2]) * np.exp(1j * angle)
            assert complex(found[position, pair], found[position, pair + 2]) == pytest.approx(turned)
    with pytest.raises(InvalidGraph, match="two halves"):
        nn.rotary(3, 5)
    with pytest.raises(InvalidGraph, match="2 positions"):
        nn.rotate(Tensor(x), nn.rotary(2, 4))


def test_multi_head_attention_is_its_parts() -> None:
    layer = nn.MultiHeadAttention(12, 4, kv_heads=2, causal=True, dtype=dt.float64)
    assert [name for name in layer.state_dict() if "weight" in name] == [
        f"{part}_proj.weight" for part in ("q", "k", "v", "out")
    ]
    x = Tensor(normal(2, 5, 12))
    q, k, v = (
        part(x).numpy().reshape(2, 5, heads, 3).swapaxes(1, 2)
        for part, heads in ((layer.q_proj, 4), (layer.k_proj, 2), (layer.v_proj, 2))
    )
    mixed = attention_by_numpy(q, k, v, np.tri(5, dtype=bool)).swapaxes(1, 2).reshape(2, 5, 12)
    close(layer(x), layer.out_proj(Tensor(mixed)).numpy())
    assert layer(x, context=Tensor(normal(2, 9, 12))).shape == (2, 5, 12)


# --------------------------------------------------------------------------------- gradients and beginnings

LAYERS: dict[str, tuple[Callable[[], Module], tuple[int, ...]]] = {
    "Conv1d": (lambda: nn.Conv1d(2, 3, 2, 2, 1, dtype=dt.float64), (2, 2, 5)),
    "Conv2d": (lambda: nn.Conv2d(4, 2, 2, 1, 1, 2, 2, dtype=dt.float64), (1, 4, 4, 3)),
    "Conv3d": (lambda: nn.Conv3d(1, 2, 2, dtype=dt.float64), (1, 1, 3, 2, 3)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 2, 2, 2, 1, 1, dtype=dt.float64), (1, 2, 3, 2)),
    "a small network": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 2, dtype=dt.float64),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Tanh(),
            nn.Flatten(),
            nn.SiLU(),
        ),
        (2, 1, 5, 5),
    ),
    "Linear": (lambda: nn.Linear(3, 2, dtype=dt.float64), (4, 3)),
    "BatchNorm": (lambda: nn.BatchNorm(3, dtype=dt.float64, track_running_stats=False), (4, 3, 2)),
    "LayerNorm": (lambda: nn.LayerNorm(3, dtype=dt.float64), (4, 3)),
    "RMSNorm": (lambda: nn.RMSNorm(3, dtype=dt.float64), (4, 3)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4, dtype=dt.float64), (2, 4, 3)),
    "InstanceNorm": (lambda: nn.InstanceNorm(2, affine=True, dtype=dt.float64), (2, 2, 3)),
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(4, 2, 1, causal=True, dtype=dt.float64), (3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.slow
def test_the_gradients_of_a_layer_are_those_of_its_differences(name: str) -> None:
    make, shape = LAYERS[name]
    layer = scaled(make())
    x = Tensor(normal(*shape), requires_grad=True)
    seed = Tensor(normal(*layer(x).shape, seed=5))
    (layer(x) * seed).sum().backward()
    for leaf in (x, *layer.parameters()):
        assert leaf.grad is not None
        direction = normal(*leaf.shape, seed=6)
        held = leaf.numpy()
        ends = []
        for step in (1e-5, -1e-5):
            leaf.assign(Tensor(held + step * direction))
            ends.append((layer(x) * seed).sum().item())
        leaf.assign(Tensor(held))
        wanted = (ends[0] - ends[1]) / 2e-5
        assert float((leaf.grad.numpy() * direction).sum()) == pytest.approx(wanted, rel=1e-6, abs=1e-8)


def test_parameters_start_from_pytorchs_distributions() -> None:
    for values, bound in (
        (nn.Linear(64, 400).weight.numpy(), 1 / 8),
        (nn.Linear(256, 4000).state_dict()["bias"].numpy(), 1 / 16),
    ):
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.99 * bound
        assert abs(values.mean()) < 0.05 * bound
        assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
    rows = nn.Embedding(100, 100).weight.numpy()
    assert (rows.mean(), rows.std()) == (pytest.approx(0, abs=0.05), pytest.approx(1, rel=0.05))


def test_cross_entropy_is_the_mean_of_negative_log_probabilities() -> None:
    logits, classes = normal(6, 4) * 5, np.array([0, 3, 1, -100, 2, 2])
    shifted = logits - logits.max(1, keepdims=True)
    chances = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    kept = classes >= 0
    wanted = -np.log(chances[np.arange(6)[kept], classes[kept]]).mean()
    x = Tensor(logits, requires_grad=True)
    loss = nn.CrossEntropyLoss()(x, Tensor(classes))
    assert loss.item() == pytest.approx(wanted)
    loss.backward()
    assert x.grad is not None
    close(x.grad, (chances - np.eye(5)[np.where(kept, classes, 4)][:, :4]) * kept[:, None] / kept.sum())


def test_the_mean_squared_error_is_what_it_says() -> None:
    assert nn.MSELoss()(Tensor([1.0, 2.0]), Tensor([2.0, 5.0])).item() == 5.0


def test_an_output_size_decides_the_output_padding() -> None:
    x = Tensor.rand(1, 2, 5, 5)
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    assert layer(x).shape == (1, 3, 9, 9)
    wide = layer(x, output_size=(10, 9))
    assert wide.shape == (1, 3, 10, 9)
    np.testing.assert_allclose(wide.numpy()[:, :, :9], layer(x).numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidGraph, match=r"output_size: \(12, 9\) is not within a stride of \(9, 9\)"):
        layer(x, output_size=(12, 9))


def test_rows_that_are_there_already_are_embedded_and_frozen_unless_told_otherwise() -> None:
    rows = Tensor([[1.0, 2.0], [3.0, 4.0]])
    frozen, free = (nn.Embedding.from_pretrained(rows, freeze=freeze) for freeze in (True, False))
    assert frozen(Tensor([1, 0])).tolist() == [[3, 4], [1, 2]]
    assert [layer.weight.requires_grad for layer in (frozen, free)] == [False, True]
    assert list(frozen.state_dict()) == ["weight"]


def test_the_cosine_of_two_tensors_is_a_layer_too() -> None:
    found = nn.CosineSimilarity(dim=0)(Tensor([1.0, 0.0]), Tensor([1.0, 1.0]))
    assert found.item() == pytest.approx(0.5**0.5)
