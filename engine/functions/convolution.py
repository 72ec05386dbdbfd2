"""Convolution over the last one, two or three axes, and its transpose: products of sliding windows and weights."""

from __future__ import annotations

from collections.abc import Sequence

from engine import build
from engine.build import cast, elementwise
from engine.errors import InvalidGraph
from engine.functions.arithmetic import add, common_type, wider
from engine.functions.reduction import reduce
from engine.functions.window import sliding
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import Shape, shape_of

Padding = str | int | Sequence[int]


def per_axis(value: int | Sequence[int], count: int, name: str, least: int = 1) -> tuple[int, ...]:
    """One number for each of so many axes; a number alone is for all."""
    found = (value,) * count if isinstance(value, int) else tuple(value)
    if len(found) == 1:
        found *= count
    if len(found) != count or any(isinstance(n, bool) or not isinstance(n, int) for n in found):
        raise InvalidGraph(f"{value!r} is not {count} integers", name)
    if min(found) < least:
        raise InvalidGraph(f"{value!r} has a number below {least}", name)
    return found


def _paddings(padding: Padding, kernel: Shape, stride: Shape, dilation: Shape) -> list[tuple[int, int]]:
    """(before, behind) for each axis."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise InvalidGraph(f"'same' is for a stride of 1, not {stride}", "padding")
        spread = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(n // 2, n - n // 2) for n in spread]
    if isinstance(padding, str):
        raise InvalidGraph(f"{padding!r} is not 'same' or 'valid'", "padding")
    return [(p, p) for p in per_axis(padding, len(kernel), "padding", 0)]


def batched(x: UOp, count: int, name: str) -> UOp:
    """x with a batch axis in front of its channels; InvalidGraph for other numbers of axes."""
    shape = shape_of(x)
    if len(shape) not in (count + 1, count + 2):
        raise InvalidGraph(f"{shape} is not (batch, channels, {count} axes), the batch optional", name)
    return build.reshape(x, (1, *shape)) if len(shape) == count + 1 else x


def unbatched(found: UOp, x: UOp, count: int) -> UOp:
    """Without the batch axis that `batched` put there."""
    return build.reshape(found, shape_of(found)[1:]) if len(shape_of(x)) == count + 1 else found


def convolve(
    x: UOp,
    axes: int,
    weight: UOp,
    bias: UOp | None,
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    groups: int,
) -> UOp:
    """(batch, in, …) by weights (out, in / groups, …), both with so many last axes."""
    name = f"conv{axes}d"
    if len(shape_of(weight)) != axes + 2:
        raise InvalidGraph(f"weight {shape_of(weight)} is not (out, in / groups, {axes} axes)", name)
    image = batched(x, axes, name)
    _, channels, *_ = shape_of(image)
    out, inner, *kernel = shape_of(weight)
    if groups < 1 or out % groups or channels != inner * groups:
        raise InvalidGraph(
            f"input {shape_of(x)} has {channels} channels, weight {shape_of(weight)} takes {inner} in {groups} groups",
            name,
        )
    strides, dilations = per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation")
    widths = _paddings(padding, tuple(kernel), strides, dilations)
    found = _correlated(image, weight, strides, widths, dilations, groups)
    return unbatched(_biased(found, bias, out, name), x, axes)


def _biased(found: UOp, bias: UOp | None, out: int, name: str) -> UOp:
    if bias is None:
        return found
    if shape_of(bias) != (out,):
        raise InvalidGraph(f"bias {shape_of(bias)} is not one number for each of the {out} outputs", name)
    return add(found, build.reshape(bias, (out, *[1] * (len(shape_of(found)) - 2))))


def _correlated(
    image: UOp,
    weight: UOp,
    stride: Shape,
    widths: Sequence[tuple[int, int]],
    dilation: Shape,
    groups: int,
) -> UOp:
    dtype = common_type(image, weight)
    image, weight = wider(cast(image, dtype)), wider(cast(weight, dtype))
    padded = build.pad(image, [(0, 0, 0), (0, 0, 0), *((low, high, 0) for low, high in widths)])
    batch = shape_of(padded)[0]
    out, inner, *kernel = shape_of(weight)
    seen = sliding(padded, kernel, stride, dilation)
    places = shape_of(seen)[2 : 2 + len(kernel)]
    # (batch, group, out / group, places…, in / group, kernel…), of which the last are summed.
    ones = [1] * len(kernel)
    axes = len(kernel)
    seen = build.reshape(seen, (batch, groups, inner, *places, *kernel))
    seen = build.permute(seen, (0, 1, *range(3, 3 + axes), 2, *range(3 + axes, 3 + 2 * axes)))
    seen = build.reshape(seen, (batch, groups, 1, *places, inner, *kernel))
    grid = (batch, groups, out // groups, *places, inner, *kernel)
    weights = build.reshape(weight, (1, groups, out // groups, *ones, inner, *kernel))
    product = elementwise(Op.MUL, build.expand(seen, grid), build.expand(weights, grid))
    found = reduce(Op.ADD, product, tuple(range(3 + axes, len(grid))), False)
    return cast(build.reshape(found, (batch, out, *places)), dtype)


def convolve_transposed(
    x: UOp,
    axes: int,
    weight: UOp,
    bias: UOp | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    output_padding: int | Sequence[int],
    groups: int,
    dilation: int | Sequence[int],
) -> UOp:
    """The transpose of `convolve`: (batch, in, …) by weights (in, out / groups, …).

    x's elements are set `stride` apart and convolved with the weights turned round. `output_padding` are further
    places behind.
    """
    name = f"conv_transpose{axes}d"
    if len(shape_of(weight)) != axes + 2:
        raise InvalidGraph(f"weight {shape_of(weight)} is not (in, out / groups, {axes} axes)", name)
    image = batched(x, axes, name)
    inside, outer, *kernel = shape_of(weight)
    if groups < 1 or inside % groups or shape_of(image)[1] != inside:
        raise InvalidGraph(
            f"input {shape_of(x)} has {shape_of(image)[1]} channels, weight {shape_of(weight)} takes {inside} in {groups} groups",
            name,
        )
    strides, dilations = per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation")
    paddings, extra = (
        per_axis(padding, axes, "padding", 0),
        per_axis(output_padding, axes, "output_padding", 0),
    )
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise InvalidGraph(
            f"{extra} is not below the stride {strides} or dilation {dilations}", "output_padding"
        )
    spread = build.pad(image, [(0, 0, 0), (0, 0, 0), *((0, 0, s - 1) for s in strides)])
    widths = [
        (d * (k - 1) - p, d * (k - 1) - p + e)
        for k, d, p, e in zip(kernel, dilations, paddings, extra, strict=True)
    ]
    cut = [
        (max(0, -low), n - max(0, -high), 1)
        for n, (low, high) in zip(shape_of(spread)[2:], widths, strict=True)
    ]
    if any(stop < start for start, stop, _ in cut):
        raise InvalidGraph(f"nothing of {shape_of(x)} is left with padding {paddings}", name)
    spread = build.shrink(spread, [*((0, n, 1) for n in shape_of(spread)[:2]), *cut])
    turned = build.flip(weight, tuple(range(2, 2 + axes)))
    turned = build.reshape(turned, (groups, inside // groups, outer, *kernel))
    turned = build.permute(turned, (0, 2, 1, *range(3, 3 + axes)))
    turned = build.reshape(turned, (groups * outer, inside // groups, *kernel))
    grown = [(max(0, low), max(0, high)) for low, high in widths]
    found = _correlated(spread, turned, (1,) * axes, grown, dilations, groups)
    return unbatched(_biased(found, bias, groups * outer, name), x, axes)
