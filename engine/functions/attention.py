"""Scaled dot-product attention (Vaswani and others, 2017)."""

from __future__ import annotations

from math import sqrt

from engine import build
from engine import dtype as dt
from engine.build import cast, iota_along
from engine.errors import InvalidGraph
from engine.functions.arithmetic import add, common_type, equal, less, multiply, where, wider
from engine.functions.linear import matmul
from engine.functions.movement import repeat_each, transpose
from engine.functions.reduction import extreme
from engine.functions.softmax import softmax
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import shape_of


def attention(
    query: UOp,
    key: UOp,
    value: UOp,
    mask: UOp | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> UOp:
    """softmax(query keyᵀ · scale + mask) value, over (…, length, width).

    `mask`: bool (true where one may look) or float (added). `is_causal`: nobody looks ahead, counted from the first
    of both. `scale`: 1/√width unless given. `enable_gqa`: several heads (axis -3) of the query share one of key and
    value. A query that may look nowhere gives 0. Half floats are computed in float32.
    """
    if min(len(shape_of(node)) for node in (query, key, value)) < 2:
        raise InvalidGraph("query, key and value are (…, length, width)", "attention")
    if mask is not None and is_causal:
        raise InvalidGraph("takes a mask or is_causal, not both", "attention")
    dtype = common_type(query, key, value)
    query, key, value = (wider(cast(node, dtype)) for node in (query, key, value))
    if enable_gqa:
        key, value = _shared(key, query), _shared(value, query)
    width = shape_of(query)[-1]
    factor = 1.0 / sqrt(width) if scale is None else scale
    scores = matmul(multiply(query, factor), transpose(key, -2, -1))
    if is_causal:
        shape = shape_of(scores)
        ahead = less(iota_along(shape, len(shape) - 2), iota_along(shape, len(shape) - 1))
        scores = where(ahead, float("-inf"), scores)
    if mask is not None:
        if mask.dtype is dt.bool_:
            scores = where(mask, scores, float("-inf"))
        else:
            scores = add(scores, cast(mask, scores.dtype))
    weights = softmax(scores, -1) if mask is None else _weights(scores)
    return cast(matmul(weights, value), dtype)


def _weights(scores: UOp) -> UOp:
    """softmax over the keys; 0 for a query that may look nowhere, in its derivative, too."""
    nowhere = equal(extreme(Op.MAX, scores, -1, True), float("-inf"))
    return where(nowhere, 0.0, softmax(where(nowhere, 0.0, scores), -1))


def _shared(node: UOp, query: UOp) -> UOp:
    """Each head repeated for the heads of the query that share it."""
    if (
        len(shape_of(node)) < 3
        or len(shape_of(query)) < 3
        or shape_of(query)[-3] % max(1, shape_of(node)[-3])
    ):
        raise InvalidGraph(
            f"the heads of {shape_of(query)} are no multiple of those of {shape_of(node)}", "attention"
        )
    times = shape_of(query)[-3] // shape_of(node)[-3]
    return build.reshape(node, shape_of(node)) if times == 1 else repeat_each(node, times, -3)
