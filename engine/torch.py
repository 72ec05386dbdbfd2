"""What a script calls on PyTorch's own module: `import engine.torch as torch` in the place of `import torch`.

Constructors, dtypes, `nn`, `optim`, `autograd` and `linalg`, and every method of Tensor as a function of one. `max`,
`min` and `median` of a dim are pairs, as there. AttributeError names what is not there. What a script imports from
below torch is found below this module (`import engine.torch.nn.functional as F`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import wraps
from os import PathLike
from types import SimpleNamespace
from typing import Any

from engine import data, dtypes, linalg, nn
from engine import differentiating as autograd
from engine.autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from engine.build import broadcast_shape
from engine.device import canonical, kinds
from engine.dtype import DType
from engine.generator import Generator, manual_seed
from engine.nn import archive, optim
from engine.numbers import finfo, iinfo
from engine.tensor import Tensor

__all__ = [
    "Generator",
    "Tensor",
    "autograd",
    "enable_grad",
    "finfo",
    "iinfo",
    "is_grad_enabled",
    "linalg",
    "manual_seed",
    "nn",
    "no_grad",
    "optim",
    "set_grad_enabled",
]

inference_mode = no_grad
Size, dtype, pi, inf, nan = tuple, DType, math.pi, math.inf, math.nan
_BELOW: dict[str, Any] = {
    "nn": nn,
    "nn.functional": nn.functional,
    "nn.init": nn.init,
    "nn.utils": nn.utils,
    "optim": optim,
    "optim.lr_scheduler": optim.lr_scheduler,
    "autograd": autograd,
    "linalg": linalg,
    "utils": SimpleNamespace(data=data),
    "utils.data": data,
}
utils: Any = _BELOW["utils"]
sys.modules.update({f"{__name__}.{name}": module for name, module in _BELOW.items()})
_DTYPES = {name: dtype for name, dtype in vars(dtypes).items() if isinstance(dtype, DType)}
_DTYPES |= {"bool": dtypes.bool_, "half": dtypes.float16, "float": dtypes.float32, "double": dtypes.float64}
_DTYPES |= {"short": dtypes.int16, "int": dtypes.int32, "long": dtypes.int64}


def tensor(
    data: Any, *, dtype: DType | None = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of its own."""
    return Tensor(data, dtype, device, requires_grad)


def as_tensor(data: Any, dtype: DType | None = None, device: str | None = None) -> Tensor:
    """A tensor; one that fits already is given back."""
    fits = isinstance(data, Tensor) and dtype in (None, data.dtype) and device in (None, data.device)
    return data if fits else Tensor(data, dtype, device)


from_numpy = as_tensor


def device(name: str, index: int | None = None) -> str:
    """The device of that name; DeviceError, which lists what there is, for an unknown one."""
    return canonical(name if index is None else f"{name}:{index}")


def get_default_dtype() -> DType:
    """What Python floats become."""
    return dtypes.float32


class cuda:
    """What a script asks before it picks a device."""

    @staticmethod
    def is_available() -> bool:
        """Is there a CUDA backend in this build?"""
        return "CUDA" in kinds()

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """As `manual_seed`, which is for all devices."""
        manual_seed(seed)

    @staticmethod
    def empty_cache() -> None:
        """Nothing: memory is let go with its last reader."""

    @staticmethod
    def synchronize() -> None:
        """Nothing: what is asked for is computed when it is given."""


# What a script asks or sets before it begins: there is one way to compute here, and it gives the same bits each time.
backends = SimpleNamespace(
    cudnn=SimpleNamespace(benchmark=False, deterministic=True, enabled=False),
    mps=SimpleNamespace(is_available=lambda: False),
)


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Nothing: all are."""


def set_float32_matmul_precision(precision: str) -> None:
    """Nothing: float32 is computed as float32."""


def compile(model: Any = None, **options: Any) -> Any:
    """`model` (a module or function) as it is: kernels are compiled anyway; engine.jit records a function's."""
    return model if model is not None else lambda given: given


def save(value: Any, path: str | PathLike[str]) -> None:
    """Tensors within dicts, lists and tuples, beside numbers and text, as a safetensors file; see engine.nn.archive.

    InvalidGraph for a module: save its state_dict().
    """
    archive.save(value, path)


def load(path: str | PathLike[str], map_location: str | None = None, weights_only: bool = True) -> Any:
    """What `save` wrote. InvalidGraph for another file: PyTorch's own run code when read."""
    return archive.load(path, None if map_location is None else canonical(map_location))


def where(condition: Tensor, *values: Any) -> Any:
    """`input` where the condition is true, else `other`; without the two the places where it is, a tensor for each axis."""
    return condition.where(*values) if values else condition.nonzero(as_tuple=True)


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, **options: Any) -> Tensor:
    """Normal random numbers of a shape, or as many as there are in the tensors of means and deviations."""
    if size is not None:
        return Tensor.normal(*size, mean=mean, std=std, **options)
    given = next((one for one in (mean, std) if isinstance(one, Tensor)), None)
    if given is None:
        raise TypeError("normal: give size=, or a tensor of means or of deviations")
    shape = broadcast_shape(*(one.shape for one in (mean, std) if isinstance(one, Tensor)))
    drawn: Tensor = Tensor.randn(*shape, dtype=given.dtype, device=given.device, **options) * std + mean
    return drawn


def is_tensor(value: Any) -> bool:
    """Is it a Tensor?"""
    return isinstance(value, Tensor)


def max(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The greatest element; of a dim (values, indices); beside another tensor the greater of the two."""
    return _chosen("max", input, dim, keepdim)


def min(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The least element; of a dim (values, indices); beside another tensor the lesser of the two."""
    return _chosen("min", input, dim, keepdim)


def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle element; of a dim (values, indices)."""
    return _chosen("median", input, dim, keepdim)


def _chosen(name: str, x: Tensor, dim: Any, keepdim: bool) -> Any:
    method = getattr(x, name)
    if dim is None or isinstance(dim, Tensor):
        return method() if dim is None else method(dim)
    return method(dim=dim, keepdim=keepdim)


def _function(name: str) -> Callable[..., Any]:
    method = getattr(Tensor, name)

    @wraps(method)
    def called(*args: Any, **options: Any) -> Any:
        if "input" in options:
            args = (options.pop("input"), *args)
        return method(*args, **options)

    return called


def __getattr__(name: str) -> Any:
    if name in _DTYPES:
        return _DTYPES[name]
    if name.startswith("_") or not callable(getattr(Tensor, name, None)):
        raise AttributeError(f"engine.torch has no {name!r}: see docs/moving.md for what is not there")
    return _function(name)
