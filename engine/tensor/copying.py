"""A tensor as a Python object: copies, pickles, text, and the small names that PyTorch's scripts ask it by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from engine.arguments import sizes
from engine.build import Scalar, cast, detach
from engine.cell import watching
from engine.dtype import DTYPES, DType, float32, float64
from engine.tensor.creation import Creation
from engine.tensor.value import Value


class Copying(Creation):
    """Copies of tensors; none of them moves an element before one of the two is changed."""

    __slots__ = ()

    def clone(self) -> Self:
        """A tensor of the same values that can be assigned by itself; gradients go through it."""
        return self._new(self._node)

    @property
    def data(self) -> Self:
        """The values without their history. What is done to it in place is done to this tensor too."""
        return self.detach()

    @data.setter
    def data(self, value: Value) -> None:
        self._alone()
        self._put(detach(cast(self._operand(value), self.dtype)))

    def __copy__(self) -> Self:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        found = type(self)._of(detach(self._node), self.device)
        memo[id(self)] = found
        if self.requires_grad and self.is_leaf:
            found.requires_grad = True
        elif self.requires_grad:
            raise RuntimeError(
                "only a leaf can be copied with its place in the graph: use clone() or detach()"
            )
        found._parameter = self.is_parameter
        if self.grad is not None:
            found.grad = self.grad.clone().detach()
        return found

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        bits = self.numpy()
        marks = (self.requires_grad and self.is_leaf, self.is_parameter)
        return _restored, (type(self), bits.tobytes(), self.dtype.name, bits.shape, *marks)

    def __str__(self) -> str:
        """The values, computed now; where they cannot be (on NULL, in a function under jit) what `repr` says."""
        if watching() is not None or self.device.startswith("NULL"):
            return repr(self)
        wide = self.dtype.is_float and self.dtype not in (float32, float64)
        plain = self._new(cast(self._node, float32)) if wide else self
        text = np.array2string(plain.detach().numpy(), separator=", ", prefix="Tensor(")
        return f"Tensor({text}, dtype={self.dtype.name})"

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self) if self.ndim or watching() is not None else str(self.item())
        if self.numel() != 1:
            raise TypeError(f"{spec!r} is a format of one number, shape {self.shape} has {self.numel()}")
        return format(self.item(), spec)

    # -- names ----------------------------------------------------------------------------------------------

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def is_cuda(self) -> bool:
        """Is it on a CUDA device?"""
        return self.device.startswith("CUDA")

    def type(self, dtype: DType | None = None) -> Any:
        """The dtype's name, or this tensor cast to a dtype."""
        return self.dtype.name if dtype is None else self._new(cast(self._node, dtype))

    def nelement(self) -> int:
        """The number of elements."""
        return self.numel()

    def ndimension(self) -> int:
        """The number of axes."""
        return self.ndim

    def is_signed(self) -> bool:
        """Has the dtype numbers below 0?"""
        return self.dtype.is_float or (self.dtype.is_int and not self.dtype.is_unsigned)

    def is_contiguous(self) -> bool:
        """True: what is computed lies in row-major order."""
        return True

    def cpu(self) -> Self:
        """This tensor on the CPU (itself if it is there)."""
        return self if self.device.split(":")[0] in ("CPU", "INTERP") else self.to("CPU")

    def new_tensor(self, data: Any, dtype: DType | None = None, requires_grad: bool = False) -> Self:
        """A tensor of data, on this one's device."""
        return type(self)(data, dtype, self.device, requires_grad)

    def new_full(self, size: Sequence[int], fill_value: Scalar, dtype: DType | None = None) -> Self:
        """One value everywhere, of this tensor's dtype (unless given) and device."""
        return type(self).full(tuple(size), fill_value, dtype or self.dtype, self.device)

    def new_zeros(self, *size: Any, dtype: DType | None = None) -> Self:
        """Zeros of this tensor's dtype (unless given) and device."""
        return self.new_full(sizes(size), 0, dtype)

    def new_ones(self, *size: Any, dtype: DType | None = None) -> Self:
        """Ones of this tensor's dtype (unless given) and device."""
        return self.new_full(sizes(size), 1, dtype)

    new_empty = new_zeros


def _restored(
    kind: Any, data: bytes, name: str, shape: tuple[int, ...], requires_grad: bool, parameter: bool = False
) -> Any:
    """The tensor that `__reduce__` took apart, on the default device."""
    found = kind(np.frombuffer(data, DTYPES[name].numpy).reshape(shape), requires_grad=requires_grad)
    found._parameter = requires_grad or parameter
    return found
