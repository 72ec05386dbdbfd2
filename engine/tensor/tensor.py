"""Tensor: all methods together."""

from __future__ import annotations

from engine.tensor.activation import Activation
from engine.tensor.casting import Casting
from engine.tensor.convolution import Convolution
from engine.tensor.copying import Copying
from engine.tensor.elementwise import Elementwise
from engine.tensor.indexing import Indexing
from engine.tensor.inplace import InPlace
from engine.tensor.linear import Linear
from engine.tensor.losses import Losses
from engine.tensor.matrices import Matrices
from engine.tensor.movement import Movement
from engine.tensor.normalization import Normalization
from engine.tensor.operators import Operators
from engine.tensor.reduction import Reduction
from engine.tensor.sorting import Sorting
from engine.tensor.statistics import Statistics
from engine.tensor.training import Training


class Tensor(
    Copying,
    InPlace,
    Training,
    Statistics,
    Activation,
    Reduction,
    Casting,
    Elementwise,
    Operators,
    Movement,
    Indexing,
    Linear,
    Sorting,
    Matrices,
    Convolution,
    Normalization,
    Losses,
):
    """An array on a device, computed when it is asked for.

    `data`: a number, nested lists, a NumPy array (copied) or another Tensor. Python floats become float32 and
    Python integers int64; `dtype` says otherwise. `device`: see engine.device; None is the environment's DEV.
    `requires_grad`: whether `backward` of what is made of it leaves a gradient here.
    ValueError for data of another dtype, DeviceError for an unknown device.
    """

    __slots__ = ()
