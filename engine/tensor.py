"""The lazy tensor: operations only write the graph down; `realize`, `numpy` and `item` compute it.

Conventions are PyTorch's: bool < int < float, a Python number lifts the category and never the width, sums of
bool and integers are int64, int / int is float32; broadcasting is NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np

from engine import arithmetic, build
from engine import dtype as dt
from engine.arguments import (
    Axes,
    axes_of,
    axis_of,
    constant,
    data_node,
    generator,
    inferred,
    integers,
    python_type,
    sizes,
)
from engine.assign import assigned
from engine.build import Scalar
from engine.cell import Cell, watching
from engine.device import canonical, get
from engine.dtype import DType
from engine.errors import DeviceError, InvalidGraph
from engine.ir import UOp
from engine.ops import Op
from engine.realize import Array, elements, is_realized, realize
from engine.shapes import Shape, shape_of

Operand = Any  # a Tensor, a number, a NumPy array
# Tensor has methods of these names, which annotations inside the class would mean.
Flag: TypeAlias = bool
Whole: TypeAlias = int
Real: TypeAlias = float


class Tensor(Cell):
    """An array of float32, int32, int64 or bool on a device, computed when it is asked for.

    `data`: a number, nested lists, a NumPy array (copied) or another Tensor. Python floats become float32 and
    Python integers int64; `dtype` says otherwise. `device`: see engine.device; None is the environment's DEV.
    ValueError for data of another dtype, DeviceError for an unknown device.
    """

    __slots__ = ("device",)
    __array_ufunc__ = None  # NumPy arrays leave the operators to us

    def __init__(self, data: Any, dtype: DType | None = None, device: str | None = None) -> None:
        self.device = data.device if isinstance(data, Tensor) and device is None else canonical(device)
        if isinstance(data, Tensor):
            data = data.to(self.device)
            self._node = build.cast(data.node, dtype or data.dtype)
        else:
            self._node = data_node(data, dtype)

    @classmethod
    def _of(cls, node: UOp, device: str) -> Tensor:
        tensor = cls.__new__(cls)
        tensor._node, tensor.device = node, device
        return tensor

    # -- making one -----------------------------------------------------------------------------------------

    @classmethod
    def full(
        cls,
        shape: Whole | Sequence[Whole],
        value: Scalar,
        dtype: DType | None = None,
        device: str | None = None,
    ) -> Tensor:
        """A tensor of `shape` with `value` everywhere; nothing is stored."""
        return cls._of(constant(value, dtype or python_type(value), sizes((shape,))), canonical(device))

    @classmethod
    def zeros(cls, *shape: Whole, dtype: DType = dt.float32, device: str | None = None) -> Tensor:
        """A tensor of zeros."""
        return cls.full(sizes(shape), 0, dtype, device)

    @classmethod
    def ones(cls, *shape: Whole, dtype: DType = dt.float32, device: str | None = None) -> Tensor:
        """A tensor of ones."""
        return cls.full(sizes(shape), 1, dtype, device)

    @classmethod
    def arange(
        cls,
        start: Real,
        stop: Real | None = None,
        step: Real = 1,
        dtype: DType | None = None,
        device: str | None = None,
    ) -> Tensor:
        """start, start + step, … before stop; with one number, 0 … before it. int64 unless a float is given."""
        first, last = (0, start) if stop is None else (start, stop)
        if step == 0:
            raise ValueError("step must not be 0")
        return cls(np.arange(first, last, step).tolist(), dtype or python_type(first + last + step), device)

    @classmethod
    def rand(cls, *shape: Whole, seed: Whole | None = None, device: str | None = None) -> Tensor:
        """Uniform float32 from [0, 1); the same for the same seed, different each time without one."""
        return cls(generator(seed).random(sizes(shape), dtype=np.float32), device=device)

    @classmethod
    def randn(cls, *shape: Whole, seed: Whole | None = None, device: str | None = None) -> Tensor:
        """Normal float32 of mean 0 and standard deviation 1; the same for the same seed."""
        return cls(generator(seed).standard_normal(sizes(shape), dtype=np.float32), device=device)

    # -- what it is -----------------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """The size of each axis."""
        return shape_of(self._node)

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self._node.dtype

    @property
    def node(self) -> UOp:
        """The graph node that this tensor stands for."""
        return self._node

    @property
    def ndim(self) -> Whole:
        """The number of axes."""
        return len(self.shape)

    def numel(self) -> Whole:
        """The number of elements."""
        return prod(self.shape)

    def __len__(self) -> Whole:
        if not self.shape:
            raise TypeError("a 0-d tensor has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        state = "realized" if is_realized(self._node) else "lazy"
        return f"Tensor(shape={self.shape}, dtype={self.dtype.name}, device={self.device}, {state})"

    # -- computing it ---------------------------------------------------------------------------------------

    def realize(self, *others: Tensor) -> Tensor:
        """Compute this tensor (and `others`, sharing work) now; returns it."""
        tensors = (self, *others)
        for name in dict.fromkeys(tensor.device for tensor in tensors):
            here = [tensor for tensor in tensors if tensor.device == name]
            found = realize([tensor._node for tensor in here], get(name))
            for tensor, node in zip(here, found, strict=True):
                tensor._node = node
        return self

    def assign(self, value: Operand) -> Tensor:
        """Let this tensor have the value of a tensor of its shape, dtype and device, or of a number; returns it.

        Tensors are values: whatever was written down before reads the old elements, also when it is computed
        later, and no other tensor changes. InvalidGraph if `value` does not fit, or if this is a view of realized
        elements (assigning to that would not change what it views: write base[…] = value).
        """
        node = self._operand(value)
        if not isinstance(value, Tensor):
            node = build.broadcast(build.cast(node, self.dtype), self.shape)
        self._node = assigned(self._node, node)
        return self

    def numpy(self) -> Array:
        """The elements as a NumPy array of their own. DeviceError on NULL, which computes nothing."""
        watch = watching()
        if watch is not None:
            watch.read_on_host("numpy()")
        return elements(self.realize()._node).copy()

    def __array__(self, dtype: Any = None, copy: Flag | None = None) -> Array:
        return self.numpy().astype(dtype, copy=False)

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers (a number for a 0-d tensor)."""
        return self.numpy().tolist()

    def item(self) -> Scalar:
        """The one element as a Python number; ValueError unless there is exactly one."""
        if self.numel() != 1:
            raise ValueError(f"item() needs one element, shape {self.shape} has {self.numel()}")
        value: Scalar = self.numpy().item()
        return value

    def __bool__(self) -> Flag:
        return bool(self.item())

    def __float__(self) -> Real:
        return float(self.item())

    def __int__(self) -> Whole:
        return int(self.item())

    def contiguous(self) -> Tensor:
        """The same values; where they are computed into memory of their own before they are read."""
        return self._new(UOp(Op.CONTIGUOUS, self.dtype, (self._node,), "global"))

    def to(self, name: str) -> Tensor:
        """This tensor on another device: itself if it is there."""
        wanted = canonical(name)
        if wanted == self.device:
            return self
        elements(self.realize()._node)  # refuses a device that has nothing to copy
        return Tensor._of(self._node, wanted)

    # -- views ----------------------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape; one size may be -1: whatever is left."""
        return self._new(build.reshape(self._node, inferred(integers(shape, "shape"), self.shape)))

    def flatten(self) -> Tensor:
        """All elements along one axis."""
        return self.reshape(self.numel())

    def unsqueeze(self, axis: Whole) -> Tensor:
        """With a new axis of size 1 at `axis`."""
        place = axis_of(axis, self.ndim + 1)
        return self.reshape((*self.shape[:place], 1, *self.shape[place:]))

    def squeeze(self, axis: Axes = None) -> Tensor:
        """Without the axes of size 1 (of those named, if any are)."""
        axes = axes_of(axis, self.ndim)
        return self.reshape(tuple(n for i, n in enumerate(self.shape) if n != 1 or i not in axes))

    def permute(self, *axes: Any) -> Tensor:
        """The axes in another order."""
        order = tuple(axis_of(axis, self.ndim) for axis in integers(axes, "axes"))
        if sorted(order) != list(range(self.ndim)):
            raise InvalidGraph(f"{order} is not an order of the {self.ndim} axes of {self.shape}", "permute")
        return self._new(build.permute(self._node, order))

    def transpose(self, first: Whole = 0, second: Whole = 1) -> Tensor:
        """Two axes swapped."""
        order = list(range(self.ndim))
        i, j = axis_of(first, self.ndim), axis_of(second, self.ndim)
        order[i], order[j] = order[j], order[i]
        return self.permute(order)

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return self.permute(tuple(range(self.ndim))[::-1])

    def expand(self, *shape: Any) -> Tensor:
        """Axes of size 1 grown to `shape`, new axes in front; -1 keeps an axis."""
        wanted = integers(shape, "shape")
        old = (1,) * (len(wanted) - self.ndim) + self.shape
        if len(old) != len(wanted):
            raise InvalidGraph(f"cannot expand {self.shape} to {wanted}: fewer axes", "expand")
        kept = tuple(n if m == -1 else m for n, m in zip(old, wanted, strict=True))
        node = build.broadcast(self._node, kept)
        shape_of(node)
        return self._new(node)

    # -- reductions -----------------------------------------------------------------------------------------

    def _reduce(self, op: Op, node: UOp, axis: Axes, keepdim: Flag) -> Tensor:
        axes = axes_of(axis, self.ndim)
        found = build.reduce(op, node, axes)
        kept = tuple(1 if i in axes else n for i, n in enumerate(self.shape))
        return self._new(build.reshape(found, kept) if keepdim else found)

    def _wide(self) -> UOp:
        return self._node if self.dtype.is_float else build.cast(self._node, dt.int64)

    def sum(self, axis: Axes = None, keepdim: Flag = False) -> Tensor:
        """The sum over the axes (all without any); of bool and integers an int64. Of nothing, 0."""
        return self._reduce(Op.ADD, self._wide(), axis, keepdim)

    def prod(self, axis: Axes = None, keepdim: Flag = False) -> Tensor:
        """The product over the axes; of bool and integers an int64. Of nothing, 1."""
        return self._reduce(Op.MUL, self._wide(), axis, keepdim)

    def max(self, axis: Axes = None, keepdim: Flag = False) -> Tensor:
        """The greatest value over the axes, NaN if any is; ValueError of no elements."""
        return self._extreme(Op.MAX, axis, keepdim)

    def min(self, axis: Axes = None, keepdim: Flag = False) -> Tensor:
        """The least value over the axes, NaN if any is; ValueError of no elements."""
        return self._extreme(Op.MIN, axis, keepdim)

    def _extreme(self, op: Op, axis: Axes, keepdim: Flag) -> Tensor:
        kept = [n for i, n in enumerate(self.shape) if i not in axes_of(axis, self.ndim)]
        if self.numel() == 0 and prod(kept) > 0:
            raise ValueError(f"{op.value.lower()} over no elements: shape {self.shape}, axis {axis}")
        return self._reduce(op, arithmetic.as_number(self._node), axis, keepdim).cast(self.dtype)

    def mean(self, axis: Axes = None, keepdim: Flag = False) -> Tensor:
        """The mean over the axes, a float; of nothing, NaN."""
        count = prod(self.shape[i] for i in axes_of(axis, self.ndim))
        return self.float().sum(axis, keepdim) / float(count)

    def softmax(self, axis: int = -1) -> Tensor:
        """exp(x) / Σ exp(x) along `axis`, safe for large x."""
        shifted = (self - self.max(axis, keepdim=True)).exp()
        return shifted / shifted.sum(axis, keepdim=True)

    def matmul(self, other: Operand) -> Tensor:
        """Matrix product, leading axes broadcast; a 1-d operand is a row on the left, a column on the right."""
        return self._with(_matmul, other)

    def __matmul__(self, other: Operand) -> Tensor:
        return self.matmul(other)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return self._after(_matmul, other)

    # -- element-wise ---------------------------------------------------------------------------------------

    def _new(self, node: UOp) -> Tensor:
        shape_of(node)  # a shape that does not fit is refused here, not when it is computed
        return Tensor._of(node, self.device)

    def _operand(self, other: Operand) -> UOp:
        if isinstance(other, Tensor):
            if other.device != self.device:
                where = f"operands on {self.device} and {other.device}"
                raise DeviceError(where, "move one with .to(device)")
            return other._node
        if isinstance(other, bool | int | float):
            return constant(other, arithmetic.scalar_type(other, self.dtype), ())
        return data_node(other, None)

    def _with(self, function: Callable[[UOp, UOp], UOp], other: Operand) -> Tensor:
        return self._new(function(self._node, self._operand(other)))

    def _after(self, function: Callable[[UOp, UOp], UOp], other: Operand) -> Tensor:
        return self._new(function(self._operand(other), self._node))

    def __add__(self, other: Operand) -> Tensor:
        return self._with(arithmetic.add, other)

    def __sub__(self, other: Operand) -> Tensor:
        return self._with(arithmetic.subtract, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return self._after(arithmetic.subtract, other)

    def __mul__(self, other: Operand) -> Tensor:
        return self._with(arithmetic.multiply, other)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Operand) -> Tensor:
        return self._with(arithmetic.divide, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return self._after(arithmetic.divide, other)

    def __floordiv__(self, other: Operand) -> Tensor:
        return self._with(arithmetic.floor_divide, other)

    def __rfloordiv__(self, other: Operand) -> Tensor:
        return self._after(arithmetic.floor_divide, other)

    def __mod__(self, other: Operand) -> Tensor:
        return self._with(arithmetic.remainder, other)

    def __rmod__(self, other: Operand) -> Tensor:
        return self._after(arithmetic.remainder, other)

    def __pow__(self, exponent: Scalar) -> Tensor:
        return self._new(arithmetic.power(self._node, exponent))

    def __neg__(self) -> Tensor:
        return self._new(arithmetic.negate(self._node))

    def __invert__(self) -> Tensor:
        return self._new(arithmetic.invert(self._node))

    def __and__(self, other: Operand) -> Tensor:
        return self._with(lambda a, b: arithmetic.bitwise(Op.AND, a, b), other)

    def __or__(self, other: Operand) -> Tensor:
        return self._with(lambda a, b: arithmetic.bitwise(Op.OR, a, b), other)

    def __xor__(self, other: Operand) -> Tensor:
        return self._with(lambda a, b: arithmetic.bitwise(Op.XOR, a, b), other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __lt__(self, other: Operand) -> Tensor:
        return self._with(arithmetic.less, other)

    def __gt__(self, other: Operand) -> Tensor:
        return self._after(arithmetic.less, other)

    def __le__(self, other: Operand) -> Tensor:
        return self._with(arithmetic.less_or_equal, other)

    def __ge__(self, other: Operand) -> Tensor:
        return self._after(arithmetic.less_or_equal, other)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._with(arithmetic.equal, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._with(arithmetic.not_equal, other)

    __hash__ = object.__hash__  # == gives a Tensor, so a tensor is hashed by identity

    def maximum(self, other: Operand) -> Tensor:
        """The greater of the two, NaN where either is."""
        return self._with(arithmetic.maximum, other)

    def minimum(self, other: Operand) -> Tensor:
        """The lesser of the two, NaN where either is."""
        return self._with(arithmetic.minimum, other)

    def where(self, if_true: Operand, if_false: Operand) -> Tensor:
        """`if_true` where this tensor is true (not 0), else `if_false`."""
        return self._new(arithmetic.where(self._node, *self._choices(if_true, if_false)))

    def _choices(self, a: Operand, b: Operand) -> tuple[UOp, UOp]:
        """Two values of `where`: a number beside a tensor takes its type, two numbers have one of their own."""
        for value in (a, b):
            if isinstance(value, Tensor):
                return value._operand(a), value._operand(b)
        beside = Tensor.full((), 0, dt.bool_, self.device)
        return beside._operand(a), beside._operand(b)

    def _float_op(self, op: Op) -> Tensor:
        return self._new(build.elementwise(op, arithmetic.as_float(self._node)))

    def exp(self) -> Tensor:
        """e ** x; integers and bool as float32."""
        return self._float_op(Op.EXP)

    def log(self) -> Tensor:
        """The natural logarithm; -infinity of 0, NaN of less."""
        return self._float_op(Op.LOG)

    def sqrt(self) -> Tensor:
        """The square root; NaN of less than 0."""
        return self._float_op(Op.SQRT)

    def sin(self) -> Tensor:
        """The sine of x in radians."""
        return self._float_op(Op.SIN)

    def floor(self) -> Tensor:
        """The greatest whole number not above x."""
        return self._new(arithmetic.floor(self._node))

    def relu(self) -> Tensor:
        """max(x, 0); NaN stays."""
        return self.maximum(0)

    def abs(self) -> Tensor:
        """|x|."""
        return self._new(arithmetic.absolute(self._node))

    __abs__ = abs

    def cast(self, dtype: DType) -> Tensor:
        """Converted: floats to integers truncate and saturate (NaN is 0), integers wrap, bool is x != 0."""
        return self._new(build.cast(self._node, dtype))

    def float(self) -> Tensor:
        """As float32."""
        return self.cast(dt.float32)

    def int(self) -> Tensor:
        """As int32."""
        return self.cast(dt.int32)

    def bool(self) -> Tensor:
        """As bool: x != 0."""
        return self.cast(dt.bool_)


def _matmul(a: UOp, b: UOp) -> UOp:
    """`build.matmul` of nodes of any dtype but bool, and of one axis or more."""
    rows, columns = shape_of(a), shape_of(b)
    if not rows or not columns:
        raise InvalidGraph(
            f"operands have shapes {rows} and {columns}; 0-d tensors multiply with *", "matmul"
        )
    dtype = dt.promote(a.dtype, b.dtype)
    if dtype is dt.bool_:
        raise InvalidGraph("is not defined for bool; cast with .int() or .float()", "matmul")
    left = build.reshape(build.cast(a, dtype), rows if len(rows) > 1 else (1, *rows))
    right = build.reshape(build.cast(b, dtype), columns if len(columns) > 1 else (*columns, 1))
    found = build.matmul(left, right)
    shape = shape_of(found)
    kept = shape[:-2] + shape[-2:-1] * (len(rows) > 1) + shape[-1:] * (len(columns) > 1)
    return build.reshape(found, kept)
