"""Computing what was only written down: simplify, verify, order into kernels, run them on a device.

In what order passes run over a tensor graph is read in `realize`; over one kernel, in engine.pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from engine.build import viewed
from engine.cell import watching
from engine.device.protocol import Absent, Device
from engine.dtype import DType, from_numpy
from engine.errors import DeviceError
from engine.ir import UOp, substitute_all, toposort
from engine.kernel import Kernel
from engine.leading import masked
from engine.ops import Op
from engine.order import Step, fresh_buffer, order
from engine.runtime.cpu import empty
from engine.shapes import shape_of
from engine.simplify import simplify_all
from engine.sizes import plain
from engine.spec import Level, verify
from engine.unfold import unfold

Array = np.ndarray[Any, np.dtype[Any]]

# What shows a BUFFER's elements as they lie.
_SEEING = frozenset({Op.RESHAPE, Op.DETACH, Op.LEADING})
# The elements of each BUFFER, and what is known of nodes that were realized: both live as long as their key.
_memory: WeakKeyDictionary[UOp, Array] = WeakKeyDictionary()
# A node may be realized on several devices (constants are the same node on all): the one used last stands here.
_realized: WeakKeyDictionary[UOp, tuple[UOp, str]] = WeakKeyDictionary()


def hold(array: Array) -> UOp:
    """A BUFFER that holds a copy of `array`, from a cache line on. ValueError if its dtype is not one of the engine's."""
    dtype = from_numpy(array.dtype)
    copy = empty(array.shape, dtype.numpy)
    np.copyto(copy, array)
    return _keep(fresh_buffer(array.shape, dtype), copy)


def elements(node: UOp) -> Array:
    """The elements of a realized node: row-major and read-only, not a copy.

    DeviceError for what a device without memory (NULL) has "computed".
    """
    found = memory(node)
    if isinstance(found, Absent):
        raise DeviceError(
            "read from NULL", "it computes nothing: there is no data to read; use CPU or INTERP"
        )
    return found


def is_realized(node: UOp, device: str | None = None) -> bool:
    """True for what was computed (on `device`, if it is given) and for a BUFFER, perhaps reshaped.

    `elements` gives its value at once.
    """
    return _followed(node, device).op is Op.BUFFER


def is_stored(node: UOp) -> bool:
    """Is the node a BUFFER, perhaps reshaped: the same on all devices, with nothing to look up or to compute?"""
    while node.op in _SEEING:
        node = node.src[0]
    return node.op is Op.BUFFER


def base_of(node: UOp) -> UOp:
    """The BUFFER that holds a realized node's elements, in its order."""
    return _followed(node, None)


def _followed(node: UOp, device: str | None) -> UOp:
    while node.op is not Op.BUFFER:
        known, where = _realized.get(node, (None, device))
        if known is not None and (device is None or where == device):
            node = known
        elif node.op in _SEEING:
            node = node.src[0]
        else:
            break
    return node


def alias(node: UOp) -> UOp:
    """Another BUFFER for the elements of a realized node: no graph refers to it yet. Nothing is copied."""
    return _keep(fresh_buffer(plain(shape_of(node)), node.dtype), memory(node))


def adopt(array: Array, dtype: DType) -> UOp:
    """A BUFFER of `array` itself, which is of `dtype` and which nobody may write to any more."""
    return _keep(fresh_buffer(array.shape, dtype), array)


def memory(node: UOp) -> Array:
    """`elements` for passing on to the device that computed them, which may be one that has no data."""
    found, shape = _memory[base_of(node)], shape_of(node)
    shape = shape if type(shape) is tuple else plain(shape)
    return found if found.shape == shape else found.reshape(shape)


def realize(roots: Sequence[UOp], device: Device) -> tuple[UOp, ...]:
    """Compute the roots on `device`: for each, a node for which `is_realized` holds.

    What an earlier call has computed is not computed again while the graph still refers to it. A BUFFER's elements
    never change: an ASSIGN is computed into memory of its own, so whoever reads the old BUFFER, before or after,
    finds the old elements, and the old memory is let go with its last reader. When the device fails, the roots are as
    they were.
    """
    wanted = (*roots, *_assigned(roots, device.name))
    known = _reuse(wanted, device.name)
    for root in known:
        verify(root, Level.TENSOR, "the tensor graph")
    simple = unfold(simplify_all(masked(known)))
    for root in simple:
        verify(root, Level.TENSOR, "simplify")
    bases = [_viewed(root) for root in simple]
    computed = _run(order(bases), set(bases), device)
    found = tuple(
        viewed(computed.get(base, base), shape_of(root)) for base, root in zip(bases, known, strict=True)
    )
    for root, result in zip(wanted, found, strict=True):
        if root is not result:
            _realized[root] = (result, device.name)
    return found[: len(roots)]


def _known_on(node: UOp, device: str) -> bool:
    known = _realized.get(node)
    return known is not None and known[1] == device


def _assigned(roots: Sequence[UOp], device: str) -> list[UOp]:
    """The ASSIGNs below the roots: they are computed on the way, and so the tensors assigned need not be again."""
    below = toposort(*roots, enter=lambda node: not _known_on(node, device), bodies=False)
    return [node for node in below if node.op is Op.ASSIGN and not _known_on(node, device)]


def _reuse(roots: tuple[UOp, ...], device: str) -> tuple[UOp, ...]:
    """The roots with everything below that is realized already in its place; FOLDs' bodies stay closed."""
    below = toposort(*roots, enter=lambda node: not _known_on(node, device), bodies=False)
    known = {node: _realized[node][0] for node in below if _known_on(node, device)}
    return substitute_all(roots, known, bodies=False) if known else roots


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
    watch = watching()
    for number, step in enumerate(steps):
        result = run_kernel(step.kernel, [_input(buffer, arrays) for buffer in step.inputs], device)
        if watch is not None:
            watch.ran(step, device)
        if step.node in wanted:
            found[step.node] = _keep(step.output, result)
        else:
            arrays[step.output] = result
        for buffer in step.inputs:
            if last_reader[buffer] == number:
                arrays.pop(buffer, None)
    return found


def _input(buffer: UOp, arrays: dict[UOp, Array]) -> Array:
    found = arrays.get(buffer)
    return _memory[buffer] if found is None else found


def run_kernel(kernel: Kernel, inputs: Sequence[Array], device: Device) -> Array:
    """The output of a kernel; of one without elements no device is asked."""
    shape = shape_of(kernel.output)
    return np.empty(shape, kernel.dtype.numpy) if 0 in shape else device.run(kernel, inputs)


def _keep(buffer: UOp, array: Array) -> UOp:
    array.flags.writeable = False
    _memory[buffer] = array
    return buffer
