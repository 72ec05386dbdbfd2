"""What a tensor is before it can do anything: a node on a device, and its elements once they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Self

import numpy as np

from engine import build
from engine.arguments import constant, data_node
from engine.autograd import followed
from engine.build import Scalar
from engine.cell import watching
from engine.device import canonical, get
from engine.dtype import DType
from engine.errors import DeviceError, InvalidGraph
from engine.functions import arithmetic
from engine.functions.arithmetic import Term
from engine.ir import UOp
from engine.ops import LEVELS, Op
from engine.realize import Array, elements, is_realized, is_stored, realize
from engine.shapes import Shape, shape_of
from engine.sizes import fixed, is_number
from engine.tensor.views import Viewing

Operand = Any  # a Tensor, a number, a NumPy array


class Value(Viewing):
    """A node on a device; see Tensor, which is this with all its methods."""

    __array_ufunc__ = None  # NumPy arrays leave the operators to us
    __slots__ = ("device",)

    def __init__(
        self, data: Any, dtype: DType | None = None, device: str | None = None, requires_grad: bool = False
    ) -> None:
        self.device = data.device if isinstance(data, Value) and device is None else canonical(device)
        if isinstance(data, Value):
            data = data.to(self.device)
            self._node = build.cast(data.node, dtype or data.dtype)
        else:
            self._node = data_node(data, dtype)
        if requires_grad:
            self.requires_grad = True

    @classmethod
    def _of(cls, node: UOp, device: str) -> Self:
        tensor = cls.__new__(cls)
        tensor._node, tensor.device = followed(node), device
        return tensor

    # -- what it is -----------------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """The size of each axis."""
        return shape_of(self._node)

    def size(self, axis: int | None = None) -> Any:
        """The shape, or the size of one axis."""
        return self.shape if axis is None else self.shape[axis]

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self._node.dtype

    @property
    def node(self) -> UOp:
        """The graph node that this tensor stands for."""
        return self._node

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def dim(self) -> int:
        """The number of axes, as PyTorch names it."""
        return self.ndim

    def numel(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.numel() * self.dtype.itemsize

    def is_floating_point(self) -> bool:
        """True for float dtypes."""
        return self.dtype.is_float

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a 0-d tensor has no length")
        return fixed(self.shape[0])

    def __repr__(self) -> str:
        state = "realized" if is_realized(self._node) else "lazy"
        return f"Tensor(shape={self.shape}, dtype={self.dtype.name}, device={self.device}, {state})"

    # -- computing it ---------------------------------------------------------------------------------------

    def realize(self, *others: Value) -> Self:
        """Compute this tensor (and `others`, sharing work) now; returns it."""
        tensors: tuple[Value, ...] = (self, *others)
        for name in dict.fromkeys(tensor.device for tensor in tensors):
            here = [tensor for tensor in tensors if tensor.device == name]
            found = realize([tensor._node for tensor in here], get(name))
            for tensor, node in zip(here, found, strict=True):
                tensor._computed(node)
        return self

    def assign(self, value: Operand) -> Self:
        """Let this tensor have the value of a tensor of its shape, dtype and device, or of a number; returns it.

        Whatever was written down before reads the old elements, also when it is computed later; of other tensors those
        change that are views of this one, or that this one is a view of. InvalidGraph if `value` does not fit, or for
        a leaf that is given something with a gradient of its own: assign under no_grad().
        """
        node = self._operand(value)
        if not isinstance(value, Value):
            node = build.broadcast(build.cast(node, self.dtype), self.shape)
        self._take(node)
        return self

    def numpy(self) -> Array:
        """The elements as a NumPy array of their own. DeviceError on NULL, which computes nothing."""
        watch = watching()
        if watch is not None:
            watch.read_on_host("numpy()")
        node = self._node
        return elements(node if is_stored(node) else self.realize()._node).copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        found = self.numpy()  # astype(None) would be float64
        return found if dtype is None else found.astype(dtype, copy=False)

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers (a number for a 0-d tensor)."""
        return self.numpy().tolist()

    def item(self) -> Scalar:
        """The one element as a Python number; ValueError unless there is exactly one."""
        if self.numel() != 1:
            raise ValueError(f"item() needs one element, shape {self.shape} has {self.numel()}")
        value: Scalar = self.numpy().item()
        return value

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if not self.dtype.is_int:
            raise TypeError(f"only integers are indices, not {self.dtype.name}")
        return int(self.item())

    def contiguous(self, level: str = "global") -> Self:
        """The same values, kept at a level of memory in the order in which they are read.

        "global": computed into memory of their own before anything reads them. "local": in scratch memory of the
        kernel that reads them, which stays in the cores' caches; views before and after it cost nothing. "register":
        nowhere, computed anew for each use. Neither makes a kernel more; a total is in a register where it was added up
        (docs/schedules.md; DEBUG=2 prints where each is).
        """
        if level not in LEVELS:
            raise InvalidGraph(f"level {level!r} must be one of {', '.join(LEVELS)}", "level")
        return self._new(UOp(Op.CONTIGUOUS, self.dtype, (self._node,), level))

    def to(
        self,
        *where: Any,
        device: str | None = None,
        dtype: DType | None = None,
        non_blocking: bool = False,
        copy: bool = False,
    ) -> Self:
        """This tensor on another device, cast to a dtype, or both; itself if it is all that (unless `copy`).

        By place, as in PyTorch: a device, a dtype, the two, or a tensor that has both. `non_blocking` says nothing
        here: what is lazy waits for nobody.
        """
        device, dtype = wanted(where, device, dtype)
        same = dtype is None or dtype is self.dtype
        found = self if dtype is None or same else self._new(build.cast(self._node, dtype))
        place = self.device if device is None else canonical(device)
        if place != self.device:
            elements(found.realize()._node)  # refuses a device that has nothing to copy
            return type(self)._of(found._node, place)
        return self._new(found._node) if copy and same else found

    # -- what methods are made with -------------------------------------------------------------------------

    def _new(self, node: UOp) -> Self:
        shape_of(node)  # a shape that does not fit is refused here, not when it is computed
        return type(self)._of(node, self.device)

    def _operand(self, other: Operand) -> UOp:
        """The node of what stands beside this tensor: a number takes this tensor's type, but for its category."""
        if isinstance(other, Value):
            if other.device != self.device:
                where = f"operands on {self.device} and {other.device}"
                raise DeviceError(where, "move one with .to(device)")
            return other._node
        if isinstance(other, np.generic):
            other = other.item()
        if is_number(other):
            return constant(other, arithmetic.scalar_type(other, self.dtype), ())
        if not isinstance(other, np.ndarray | Sequence) or isinstance(other, str | bytes):
            raise TypeError(f"beside a Tensor stands a Tensor, a number or an array, not {other!r}")
        return data_node(other, None)

    def _term(self, other: Operand) -> Term:
        """As `_operand`, but a number stays one: the function it is given to finds its type."""
        if isinstance(other, np.generic):
            other = other.item()
        return other if is_number(other) else self._operand(other)

    def _with(self, function: Callable[[UOp, UOp], UOp], other: Operand) -> Self:
        return self._new(function(self._node, self._operand(other)))

    def _after(self, function: Callable[[UOp, UOp], UOp], other: Operand) -> Self:
        return self._new(function(self._operand(other), self._node))


def wanted(
    where: tuple[Any, ...], device: str | None = None, dtype: DType | None = None
) -> tuple[str | None, DType | None]:
    """The device and the dtype that the arguments of `to` name. TypeError for what is neither."""
    for one in where:
        if isinstance(one, DType):
            dtype = one
        elif isinstance(one, Value):
            device, dtype = one.device, one.dtype
        elif isinstance(one, str):
            device = one
        elif one is not None and not isinstance(one, bool):  # PyTorch's non_blocking and copy
            raise TypeError(f"to: {one!r} is no device, no dtype and no tensor")
    return device, dtype
