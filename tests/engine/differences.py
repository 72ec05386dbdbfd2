"""Values of small graphs over PARAMs, and their gradients twice: by engine.gradient and by central differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engine import dtype as dt
from engine.build import param
from engine.gradient import gradients
from engine.ir import UOp, substitute, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.runtime.interp import evaluate
from engine.shapes import shape_of

STEP = 1e-5


def leaves(*arrays: np.ndarray) -> list[UOp]:
    """A PARAM for each array."""
    return [param(i, a.shape, dt.from_numpy(a.dtype)) for i, a in enumerate(arrays)]


def value(root: UOp, arrays: Mapping[UOp, np.ndarray]) -> np.ndarray:
    """The root's value by the interpreter; it need not read every array."""
    read = [node for node in toposort(root) if node.op is Op.PARAM]
    slots = {node: param(i, shape_of(node), node.dtype) for i, node in enumerate(read)}
    return evaluate(Kernel(substitute(root, slots)), [arrays[node] for node in read])


def by_rules(root: UOp, arrays: Mapping[UOp, np.ndarray], seed: np.ndarray) -> list[np.ndarray]:
    """The gradient of Σ root · seed with respect to each float array; zeros where it does not depend on one."""
    given = param(len(arrays), seed.shape, root.dtype)
    targets = [node for node in arrays if node.dtype.is_float]
    found = gradients([root], [given], targets)
    bound = {**arrays, given: seed}
    return [
        np.zeros(shape_of(t)) if g is None else value(g, bound) for t, g in zip(targets, found, strict=True)
    ]


def by_differences(root: UOp, arrays: Mapping[UOp, np.ndarray], seed: np.ndarray) -> list[np.ndarray]:
    """The same, an element at a time."""
    found = []
    for target in (node for node in arrays if node.dtype.is_float):
        gradient = np.zeros(arrays[target].shape)
        for place in np.ndindex(gradient.shape):
            at = [_moved(arrays, target, place, step) for step in (STEP, -STEP)]
            above, below = (float((value(root, moved) * seed).sum()) for moved in at)
            gradient[place] = (above - below) / (2 * STEP)
        found.append(gradient)
    return found


def _moved(
    arrays: Mapping[UOp, np.ndarray], target: UOp, place: Sequence[int], step: float
) -> dict[UOp, np.ndarray]:
    moved = np.array(arrays[target])
    moved[tuple(place)] += step
    return {**arrays, target: moved}


def assert_gradients(root: UOp, arrays: Mapping[UOp, np.ndarray], random: np.random.Generator) -> None:
    """Rules and differences agree for a random seed; float64 graphs only."""
    seed = random.normal(size=shape_of(root))
    got, wanted = by_rules(root, arrays, seed), by_differences(root, arrays, seed)
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6 * (1 + np.abs(w).max(initial=0)))
