"""Computing what was only written down: simplify, verify, order into kernels, run them on a device.

In what order passes run over a tensor graph is read in `realize`; over one kernel, in engine.pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from engine.build import reshape
from engine.device.protocol import Absent, Device
from engine.dtype import from_numpy
from engine.errors import DeviceError
from engine.ir import UOp, substitute, toposort
from engine.ops import Op
from engine.order import Step, fresh_buffer, order
from engine.shapes import shape_of
from engine.simplify import simplify_all
from engine.spec import Level, verify
from engine.unfold import unfold

Array = np.ndarray[Any, np.dtype[Any]]

# The elements of each BUFFER, and what is known of nodes that were realized: both live as long as their key.
_memory: WeakKeyDictionary[UOp, Array] = WeakKeyDictionary()
_realized: WeakKeyDictionary[UOp, UOp] = WeakKeyDictionary()


def hold(array: Array) -> UOp:
    """A BUFFER that holds a copy of `array`. ValueError if its dtype is not one of the engine's."""
    dtype = from_numpy(array.dtype)
    return _keep(fresh_buffer(array.shape, dtype), np.array(array, dtype.numpy, order="C", copy=True))


def elements(node: UOp) -> Array:
    """The elements of a realized node (a BUFFER, perhaps reshaped): row-major and read-only, not a copy.

    DeviceError for what a device without memory (NULL) has "computed".
    """
    source = node.src[0] if node.op is Op.RESHAPE else node
    return _data(_memory[source]).reshape(shape_of(node))


def _data(array: Array) -> Array:
    if isinstance(array, Absent):
        raise DeviceError(
            "read from NULL", "it computes nothing: there is no data to read; use CPU or INTERP"
        )
    return array


def is_realized(node: UOp) -> bool:
    """True for a BUFFER, perhaps reshaped: `elements` gives its value at once."""
    return node.op is Op.BUFFER or (node.op is Op.RESHAPE and node.src[0].op is Op.BUFFER)


def realize(roots: Sequence[UOp], device: Device) -> tuple[UOp, ...]:
    """Compute the roots on `device`: for each, a node for which `is_realized` holds.

    What an earlier call has computed is not computed again while the graph still refers to it.
    """
    known = _reuse(tuple(roots))
    for root in known:
        verify(root, Level.TENSOR, "the tensor graph")
    simple = unfold(simplify_all(known))
    for root in simple:
        verify(root, Level.TENSOR, "simplify")
    bases = [_viewed(root) for root in simple]
    computed = _run(order(bases), set(bases), device)
    found = tuple(
        reshape(computed.get(base, base), shape_of(root)) for base, root in zip(bases, simple, strict=True)
    )
    for root, result in zip(roots, found, strict=True):
        if not is_realized(root):
            _realized[root] = result
    return found


def _reuse(roots: tuple[UOp, ...]) -> tuple[UOp, ...]:
    """The roots with everything below that is realized already in its place."""
    below = toposort(*roots, enter=lambda node: node not in _realized)
    known = {node: _realized[node] for node in below if node in _realized}
    return tuple(substitute(root, known) for root in roots) if known else roots


def _viewed(root: UOp) -> UOp:
    """What a reshape looks at: it needs no kernel of its own, memory is row-major either way."""
    while root.op is Op.RESHAPE:
        root = root.src[0]
    return root


def _run(steps: list[Step], wanted: set[UOp], device: Device) -> dict[UOp, UOp]:
    """Run the steps; the BUFFER of each wanted node. The others are let go after their last reader."""
    last_reader = {buffer: number for number, step in enumerate(steps) for buffer in step.inputs}
    arrays: dict[UOp, Array] = {}
    found: dict[UOp, UOp] = {}
    for number, step in enumerate(steps):
        inputs = [arrays[b] if b in arrays else _memory[b] for b in step.inputs]
        result = _output(step, inputs, device)
        if step.node in wanted:
            found[step.node] = _keep(step.output, result)
        else:
            arrays[step.output] = result
        for buffer in step.inputs:
            if last_reader[buffer] == number:
                arrays.pop(buffer, None)
    return found


def _output(step: Step, inputs: list[Array], device: Device) -> Array:
    shape = shape_of(step.kernel.output)
    if 0 in shape:
        return np.empty(shape, step.kernel.dtype.numpy)
    return device.run(step.kernel, inputs)


def _keep(buffer: UOp, array: Array) -> UOp:
    array.flags.writeable = False
    _memory[buffer] = array
    return buffer
