"""Convolution, pooling and resizing against loops that do what their names say."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.errors import InvalidGraph
from engine.tensor import Tensor
from tests.engine.tensor.comparing import Array, equal, integers, normal, same

LETTERS = {1: "conv1d", 2: "conv2d", 3: "conv3d"}


def looped(
    x: Array, w: Array, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Array:
    """Every output element as a sum over its window."""
    out, inner, *kernel = w.shape
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(padded.shape[2:], kernel, stride, dilation, strict=True)
    ]
    found = np.zeros((len(x), out, *sizes), w.dtype)
    for o in range(out):
        first = o // (out // groups) * inner
        for place in np.ndindex(*sizes):
            window = tuple(
                slice(p * s, p * s + d * (k - 1) + 1, d)
                for p, s, k, d in zip(place, stride, kernel, dilation, strict=True)
            )
            seen = padded[(slice(None), slice(first, first + inner), *window)]
            found[(slice(None), o, *place)] = (seen * w[o]).reshape(len(x), -1).sum(1)
    return found


@st.composite
def convolutions(draw: st.DrawFn) -> Any:
    axes = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    few = st.integers(1, 2 if axes == 3 else 3)
    kernel, stride, dilation = ([draw(few) for _ in range(axes)] for _ in range(3))
    padding = [draw(st.integers(0, 2)) for _ in range(axes)]
    sizes = [d * (k - 1) + 1 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True)]
    inner, outer = draw(few), draw(few)
    x = integers(draw(st.integers(1, 2)), inner * groups, *sizes)
    return x, integers(outer * groups, inner, *kernel, seed=1), stride, padding, dilation, groups


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_a_convolution_is_the_sum_over_its_window(drawn: Any) -> None:
    x, w, stride, padding, dilation, groups = drawn
    convolve = getattr(Tensor(x), LETTERS[w.ndim - 2])
    got = convolve(Tensor(w), stride=stride, padding=padding, dilation=dilation, groups=groups)
    equal(got, looped(x, w, stride, padding, dilation, groups))


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(0, 1))
def test_a_transposed_convolution_is_the_transpose(drawn: Any, extra: int) -> None:
    """〈conv(x), y〉 = 〈x, conv_transpose(y)〉 for all x: here, for each unit vector at once."""
    x, w, stride, padding, dilation, groups = drawn
    y = looped(x, w, stride, padding, dilation, groups)
    y = integers(*y.shape, seed=5)
    rest = [
        n + 2 * p - d * (k - 1) - 1 - (o - 1) * s
        for n, p, d, k, o, s in zip(
            x.shape[2:], padding, dilation, w.shape[2:], y.shape[2:], stride, strict=True
        )
    ]
    back = getattr(Tensor(y), LETTERS[w.ndim - 2].replace("conv", "conv_transpose"))
    got = back(
        Tensor(w), stride=stride, padding=padding, output_padding=rest, groups=groups, dilation=dilation
    )
    assert got.shape == x.shape
    forward = looped(x, w, stride, padding, dilation, groups)
    assert int((got.numpy().astype(np.int64) * x).sum()) == int((forward.astype(np.int64) * y).sum())


def test_bias_words_for_padding_and_images_without_a_batch() -> None:
    x, w, b = normal(2, 3, 7, 6), normal(4, 3, 3, 4), normal(4)
    plain = looped(x, w, (1, 1), (0, 0), (1, 1), 1)
    same(Tensor(x).conv2d(Tensor(w), Tensor(b), padding="valid"), plain + b[:, None, None], 1e-4, 1e-5)
    same(Tensor(x[0]).conv2d(Tensor(w)), plain[0], 1e-4, 1e-5)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 2)))
    same(
        Tensor(x).conv2d(Tensor(w), padding="same"), looped(padded, w, (1, 1), (0, 0), (1, 1), 1), 1e-4, 1e-5
    )
    half = Tensor(x).half().conv2d(Tensor(w).half())
    assert half.dtype is dt.float16
    same(half.float(), plain, 1e-2, 2e-2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x, w: x.conv2d(w[:, :2]), "3 channels, weight .* takes 2 in 1 groups"),
        (lambda x, w: x.conv2d(w, groups=2), "takes 3 in 2 groups"),
        (lambda x, w: x.conv1d(w), r"is not \(out, in / groups, 1 axes\)"),
        (lambda x, w: x[0, 0].conv2d(w), r"is not \(batch, channels, 2 axes\)"),
        (lambda x, w: x.conv2d(w, stride=0), "stride: 0 has a number below 1"),
        (lambda x, w: x.conv2d(w, padding=(1, 2, 3)), "is not 2 integers"),
        (lambda x, w: x.conv2d(w, padding="full"), "'full'"),
        (lambda x, w: x.conv2d(w, padding="same", stride=2), "stride of 1"),
        (lambda x, w: x.conv2d(w, dilation=9), "do not fit"),
        (lambda x, w: x.conv2d(w, Tensor(normal(3))), r"bias \(3,\)"),
        (lambda x, w: x.conv_transpose2d(w), "takes 4 in 1 groups"),
        (lambda x, w: x.conv_transpose2d(w.transpose(0, 1), output_padding=1), "output_padding"),
        (lambda x, w: x.conv_transpose2d(w.transpose(0, 1), padding=9), "is left"),
        (lambda x, w: x.max_pool2d(3, padding=3), "more than half"),
        (lambda x, w: x.max_pool2d(99), "do not fit"),
        (lambda x, w: x.adaptive_avg_pool2d((1, 2, 3)), "2 sizes"),
        (lambda x, w: x.interpolate(), "takes a size or"),
        (lambda x, w: x.interpolate(3, mode="linear"), "is not one of nearest, "),
        (lambda x, w: x[0, 0].interpolate(3), "1 to 3 axes"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        wrong(Tensor(normal(2, 3, 7, 6)), Tensor(normal(4, 3, 3, 3)))


# ------------------------------------------------------------------------------------------------ pooling


def pooled(x: Array, kernel: int, stride: int, padding: int, ceil_mode: bool, how: str) -> Array:
    """Along the last axis, window by window."""
    n = x.shape[-1]
    count = (ceil if ceil_mode else floor)((n + 2 * padding - kernel) / stride) + 1
    if ceil_mode and (count - 1) * stride >= n + padding:
        count -= 1
    found = []
    for i in range(count):
        start = i * stride - padding
        stop = min(start + kernel, n + padding)
        part = x[..., max(start, 0) : min(stop, n)]
        if how == "max":
            found.append(part.max(-1))
        else:
            found.append(part.sum(-1) / (stop - start if how == "all" else part.shape[-1]))
    return np.stack(found, -1)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pools_of_one_axis(kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
    if 2 * padding > kernel:
        return
    x = normal(2, 3, 11)
    geometry = (kernel, stride, padding)
    largest = Tensor(x).max_pool1d(*geometry, ceil_mode=ceil_mode)
    equal(largest, pooled(x, *geometry, ceil_mode, "max"))
    for include in (True, False):
        mean = Tensor(x).avg_pool1d(*geometry, ceil_mode=ceil_mode, count_include_pad=include)
        same(mean, pooled(x, *geometry, ceil_mode, "all" if include else "inside"), 1e-5)


def test_pools_of_more_axes_are_pools_of_each() -> None:
    x = normal(2, 3, 9, 8)
    along = pooled(pooled(x, 3, 2, 1, False, "max").swapaxes(2, 3), 3, 2, 1, False, "max").swapaxes(2, 3)
    equal(Tensor(x).max_pool2d(3, 2, 1), along)
    equal(Tensor(x[0]).max_pool2d(3, 2, 1), along[0])
    cube = normal(1, 2, 4, 6, 8)
    blocks = cube.reshape(1, 2, 2, 2, 3, 2, 4, 2)
    equal(Tensor(cube).max_pool3d(2), blocks.max((3, 5, 7)))
    same(Tensor(cube).avg_pool3d(2), blocks.mean((3, 5, 7)), 1e-5)
    equal(Tensor(integers(1, 1, 8)).max_pool1d(2), integers(1, 1, 8).reshape(1, 1, 4, 2).max(-1))
    assert np.isnan(Tensor([[[np.nan, 1.0, 2.0, 3.0]]]).max_pool1d(2).numpy()).tolist() == [[[True, False]]]
    spaced = Tensor(x).max_pool2d(2, 1, dilation=(3, 1))
    equal(
        spaced,
        np.maximum(
            np.maximum(x[:, :, :-3, :-1], x[:, :, 3:, :-1]), np.maximum(x[:, :, :-3, 1:], x[:, :, 3:, 1:])
        ),
    )


@pytest.mark.parametrize("output", [1, 2, 3, 5, 7, 11, 13])
def test_adaptive_pools_average_parts_of_the_axis(output: int) -> None:
    x = normal(2, 3, 11)
    parts = [(i * 11 // output, -(-(i + 1) * 11 // output)) for i in range(output)]
    wanted = np.stack([x[..., a:b].mean(-1) for a, b in parts], -1)
    same(Tensor(x).adaptive_avg_pool1d(output), wanted, 1e-5)
    same(Tensor(x[:, :, None]).adaptive_avg_pool2d((None, output)), wanted[:, :, None], 1e-5)


@pytest.mark.parametrize("size", [1, 3, 5, 10, 12])
def test_resizing(size: int) -> None:
    x = normal(2, 3, 5)
    near = Tensor(x).interpolate(size)
    equal(near, x[..., np.arange(size) * 5 // size])
    places = np.maximum((np.arange(size) + 0.5) * 5 / size - 0.5, 0)
    wanted = np.stack([[np.interp(places, np.arange(5), row) for row in image] for image in x])
    same(Tensor(x).interpolate(size, mode="linear"), wanted, 1e-5)
    corners = np.linspace(0, 4, size) if size > 1 else np.zeros(1)
    wanted = np.stack([[np.interp(corners, np.arange(5), row) for row in image] for image in x])
    same(Tensor(x).interpolate(size, mode="linear", align_corners=True), wanted, 1e-5)
    assert Tensor(x).interpolate(scale_factor=1.5).shape == (2, 3, 7)


def _keys(distance: float) -> float:
    d = abs(distance)
    if d <= 1:
        return 1.25 * d**3 - 2.25 * d**2 + 1
    return -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3 if d < 2 else 0.0


@pytest.mark.parametrize(("n", "m"), [(5, 9), (7, 3), (4, 4), (6, 1)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_bicubic_weighs_the_four_next_by_keyss_curve(n: int, m: int, align_corners: bool) -> None:
    step = ((n - 1) / (m - 1) if m > 1 else 0.0) if align_corners else n / m
    matrix = np.zeros((m, n))
    for i in range(m):
        at = i * step if align_corners else (i + 0.5) * step - 0.5
        for k in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            matrix[i, min(max(k, 0), n - 1)] += _keys(at - k)
    x = normal(2, 3, n, n)
    got = Tensor(x).interpolate((m, m), mode="bicubic", align_corners=align_corners)
    same(got, np.einsum("ia,jb,xyab->xyij", matrix, matrix, x).astype(np.float32), rtol=1e-4, atol=1e-5)


def test_areas_and_exact_neighbours() -> None:
    x = normal(2, 3, 5, 8)
    equal(Tensor(x).interpolate((2, 3), mode="area"), Tensor(x).adaptive_avg_pool2d((2, 3)).numpy())
    rows, columns = ((np.arange(m) * 2 + 1) * n // (2 * m) for m, n in ((3, 5), (11, 8)))
    equal(Tensor(x).interpolate((3, 11), mode="nearest-exact"), x[:, :, rows][..., columns])
    with pytest.raises(InvalidGraph, match="align_corners is for modes between elements"):
        Tensor(x).interpolate((3, 3), align_corners=True)
