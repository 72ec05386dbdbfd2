"""Optimizers that divide by roots of squared gradients: RMSprop and Adagrad, in the order PyTorch computes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.nn.optimizers import Group, Optimizer, Parameters, decayed, number
from engine.tensor import Tensor


class RMSprop(Optimizer):
    """Steps by the gradient over the root of a running mean of its square (with `centered` of its variance).

    Source: Hinton's lecture 6 of "Neural networks for machine learning" (2012); `centered`: Graves (2013).
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
    ) -> None:
        options: dict[str, Any] = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(
            parameters, options | {"momentum": momentum, "centered": centered, "maximize": maximize}
        )

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        gradient, alpha = decayed(group, parameter, gradient), group["alpha"]
        square = self._zeros(parameter, "square_avg")
        square.assign(square * alpha + gradient * gradient * (1 - alpha))
        spread = square
        if group["centered"]:
            mean = self._zeros(parameter, "grad_avg")
            mean.assign(mean + (gradient - mean) * (1 - alpha))
            spread = square - mean * mean
        step = gradient / (spread.sqrt() + group["eps"])
        if group["momentum"]:
            moved = self._zeros(parameter, "momentum_buffer")
            step = moved.assign(moved * group["momentum"] + step)
        parameter.assign(parameter - step * group.rate.cast(parameter.dtype))


class Adagrad(Optimizer):
    """Steps by the gradient over the root of the sum of all its squares so far.

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods" (2011). With `lr_decay` the rate is divided by
    1 + that times the steps before.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
    ) -> None:
        options: dict[str, Any] = {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay}
        options |= {"initial_accumulator_value": initial_accumulator_value, "maximize": maximize}
        super().__init__(parameters, options)

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        gradient = decayed(group, parameter, gradient)
        state = self.state.setdefault(parameter, {})
        if "sum" not in state:
            start = np.full(parameter.shape, group["initial_accumulator_value"])
            state["sum"] = Tensor(start, parameter.dtype, self.device)
            state["step"] = number(0.0, self.device)
        total, steps = state["sum"], state["step"]
        rate = group.rate / (steps * group["lr_decay"] + 1) if group["lr_decay"] else group.rate
        steps.assign(steps + 1)
        total.assign(total + gradient * gradient)
        parameter.assign(parameter - gradient / (total.sqrt() + group["eps"]) * rate.cast(parameter.dtype))
