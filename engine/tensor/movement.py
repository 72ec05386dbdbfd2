"""Shapes and the order of elements: views, which copy nothing, and what is put together of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, Self, TypeVar

from engine.arguments import Axes, axis_of, integers, numbers, pairs, takes_dim
from engine.build import Scalar, broadcast_shape
from engine.errors import InvalidGraph
from engine.functions import movement, window
from engine.ir import UOp
from engine.shapes import shape_of
from engine.tensor.value import Value

One = TypeVar("One", bound=Value)


class Movement(Value):
    """Methods that move elements."""

    __slots__ = ()

    def _part(self, axis: int, start: int, stop: int) -> Self:
        """The elements from start to below stop of an axis counted from the front."""
        return self._view(partial(movement.part, axis=axis, start=start, stop=stop))

    def _parts(self, nodes: Sequence[UOp], axis: int) -> tuple[Self, ...]:
        """What `nodes` are, parts of an axis one behind the other, as views."""
        place = axis_of(axis, self.ndim)
        ends = [0, *accumulate(shape_of(node)[place] for node in nodes)]
        return tuple(self._part(place, *ends_of_one) for ends_of_one in pairwise(ends))

    def _row(self, axis: int, place: int) -> Self:
        """One place of an axis, which disappears."""
        return self._view(lambda x: movement.squeeze(movement.part(x, axis, place, place + 1), axis))

    # -- shapes ---------------------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> Self:
        """The same elements in another shape; one size may be -1: whatever is left."""
        return self._view(partial(movement.reshape, shape=integers(shape, "shape")))

    view = reshape

    def expand(self, *shape: Any) -> Self:
        """Axes of size 1 grown to `shape`, new axes in front; -1 keeps an axis."""
        return self._new(movement.expand(self._node, integers(shape, "shape")))

    broadcast_to = expand

    def expand_as(self, other: Value) -> Self:
        """Grown to the shape of another tensor."""
        return self.expand(other.shape)

    def reshape_as(self, other: Value) -> Self:
        """In the shape of another tensor."""
        return self.reshape(other.shape)

    view_as = reshape_as

    @takes_dim
    def unsqueeze(self, axis: int) -> Self:
        """With a new axis of size 1 at `axis`."""
        return self._view(partial(movement.unsqueeze, axis=axis))

    @takes_dim
    def squeeze(self, axis: Axes = None) -> Self:
        """Without the axes of size 1 (of those named, if any are)."""
        return self._view(partial(movement.squeeze, axis=axis))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Self:
        """The axes from the first to the last named as one."""
        return self._view(partial(movement.flatten, first=start_dim, last=end_dim))

    def ravel(self) -> Self:
        """All elements along one axis."""
        return self.flatten()

    @takes_dim
    def unflatten(self, axis: int, sizes: Sequence[int]) -> Self:
        """One axis as several; one size may be -1."""
        return self._view(partial(movement.unflatten, axis=axis, sizes=integers((sizes,), "sizes")))

    # -- order ----------------------------------------------------------------------------------------------

    def permute(self, *axes: Any) -> Self:
        """The axes in another order."""
        return self._view(partial(movement.permute, axes=integers(axes, "axes")))

    def transpose(self, dim0: int = 0, dim1: int = 1) -> Self:
        """Two axes swapped."""
        return self._view(partial(movement.transpose, first=dim0, second=dim1))

    swapaxes = swapdims = transpose

    def t(self) -> Self:
        """A matrix transposed; fewer axes stay. InvalidGraph for more."""
        return self._view(movement.transposed)

    @property
    def T(self) -> Self:
        """The axes in reverse order."""
        return self.permute(tuple(range(self.ndim))[::-1])

    @property
    def mT(self) -> Self:
        """The last two axes swapped."""
        return self.transpose(-2, -1)

    def movedim(self, source: int | Sequence[int], destination: int | Sequence[int]) -> Self:
        """Axes brought to other places, the rest in order."""
        return self._view(partial(movement.move_axes, source=numbers(source), target=numbers(destination)))

    moveaxis = movedim

    def flip(self, *axes: Any) -> Self:
        """The order of some axes reversed (all without any named)."""
        return self._new(movement.flip(self._node, integers(axes, "axes") if axes else None))

    @takes_dim
    def roll(self, shifts: int | Sequence[int], axis: Axes = None) -> Self:
        """Elements moved on along axes, what falls off coming back in front; without an axis, along all as one."""
        return self._new(movement.roll(self._node, numbers(shifts), axis))

    def rot90(self, k: int = 1, dims: Sequence[int] = (0, 1)) -> Self:
        """Quarter turns from the first of two axes to the second."""
        return self._new(movement.rot90(self._node, k, *dims))

    # -- repeating ------------------------------------------------------------------------------------------

    def repeat(self, *times: Any) -> Self:
        """The whole repeated so often along each axis, new axes in front."""
        return self._new(movement.repeat(self._node, integers(times, "times")))

    def tile(self, *times: Any) -> Self:
        """As `repeat`, where missing leading numbers are 1."""
        given = integers(times, "times")
        return self.repeat((1,) * (self.ndim - len(given)) + given)

    @takes_dim
    def repeat_interleave(
        self, repeats: int | Sequence[int] | Value, axis: int | None = None, output_size: int | None = None
    ) -> Self:
        """Each element repeated so often along an axis (of all elements in order without one).

        Several numbers say it for each place of the axis; those that a tensor holds are computed now.
        """
        if not isinstance(repeats, Value | Sequence):
            return self._new(movement.repeat_each(self._node, repeats, axis))
        times = repeats.tolist() if isinstance(repeats, Value) else list(repeats)
        times = times if isinstance(times, list) else [times]
        x = self.flatten() if axis is None else self
        place = 0 if axis is None else axis_of(axis, self.ndim)
        times = times * x.shape[place] if len(times) == 1 else times
        if len(times) != x.shape[place] or any(t < 0 for t in times):
            raise InvalidGraph(f"{times} does not say how often for each of {x.shape[place]}", "repeats")
        at = [number for number, count in enumerate(times) for _ in range(count)]
        found: Self = x[(*[slice(None)] * place, at)]  # type: ignore[index]
        return found

    # -- cutting and joining --------------------------------------------------------------------------------

    def cat(self: One | Sequence[One], *others: Any, axis: int = 0, dim: int | None = None) -> One:
        """Joined along an axis: `x.cat(y, z, dim=1)`, `Tensor.cat(x, y)` or `Tensor.cat([x, y], 1)`."""
        tensors, place = _several(self, others, axis if dim is None else dim)
        return tensors[0]._new(movement.cat([tensors[0]._operand(x) for x in tensors], place))

    concat = concatenate = cat

    def stack(self: One | Sequence[One], *others: Any, axis: int = 0, dim: int | None = None) -> One:
        """Joined along a new axis; called as `cat` is."""
        tensors, place = _several(self, others, axis if dim is None else dim)
        return tensors[0]._new(movement.stack([tensors[0]._operand(x) for x in tensors], place))

    def shrink(self, limits: Sequence[tuple[int, int] | None]) -> Self:
        """The elements from start to below stop of each axis; None keeps an axis."""
        return self._new(movement.shrink(self._node, limits))

    @takes_dim
    def narrow(self, axis: int, start: int, length: int) -> Self:
        """`length` elements of an axis from `start` on."""
        return self._part(axis_of(axis, self.ndim), start, start + length)

    @takes_dim
    def split(self, sizes: int | Sequence[int], axis: int = 0) -> tuple[Self, ...]:
        """Parts of an axis: of one size (the last may be smaller), or of the sizes given, which are all of it."""
        return self._parts(movement.split(self._node, sizes, axis), axis)

    @takes_dim
    def chunk(self, chunks: int, axis: int = 0) -> tuple[Self, ...]:
        """At most so many parts of an axis, all but the last of one size."""
        return self._parts(movement.chunk(self._node, chunks, axis), axis)

    @takes_dim
    def unbind(self, axis: int = 0) -> tuple[Self, ...]:
        """The slices along an axis, each without it."""
        return tuple(self._row(axis, place) for place in range(len(movement.unbind(self._node, axis))))

    @takes_dim
    def unfold(self, axis: int, size: int, step: int) -> Self:
        """Windows of an axis, `step` apart, each as a new last axis."""
        return self._new(window.unfold(self._node, axis, size, step))

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Self:
        """The diagonal of two axes, `offset` above the main one, as a last axis."""
        return self._view(partial(movement.diagonal, offset=offset, first=dim1, second=dim2))

    def pad(self, padding: Sequence[Any], mode: str = "constant", value: Scalar = 0) -> Self:
        """Elements put before and behind axes; a negative number takes some away.

        `padding`: PyTorch's flat numbers, last axis first (low, high, low, high, …), or a (low, high) pair (or None)
        for each axis. `mode`: constant, reflect, replicate or circular.
        """
        return self._new(movement.pad(self._node, pairs(padding, self.ndim), mode, value))

    # -- several together -----------------------------------------------------------------------------------

    def broadcast_tensors(self: One, *others: One) -> tuple[One, ...]:
        """All grown to their common shape."""
        tensors = (self, *others)
        shape = broadcast_shape(*(tensor.shape for tensor in tensors))
        return tuple(tensor._new(movement.expand(tensor._node, shape)) for tensor in tensors)

    def meshgrid(self: One, *others: One, indexing: str = "ij") -> tuple[One, ...]:
        """1-d tensors as coordinates: each spread over all the others' axes. "xy" swaps the first two axes."""
        nodes = movement.mesh([self._operand(tensor) for tensor in (self, *others)], indexing)
        return tuple(self._new(node) for node in nodes)


def _several(first: One | Sequence[One], others: tuple[Any, ...], axis: int) -> tuple[list[One], int]:
    """The tensors of f(a, b, axis=) or f([a, b], axis)."""
    if isinstance(first, Value):
        given: list[Any] = [first, *others]
    else:
        given = list(first)
        axis = others[0] if others else axis
    for place, tensor in enumerate(given):
        if not isinstance(tensor, Value):
            raise TypeError(f"tensors[{place}] must be a Tensor, not {type(tensor).__name__}")
    if not given:
        raise ValueError("there are no tensors to join")
    return given, axis
