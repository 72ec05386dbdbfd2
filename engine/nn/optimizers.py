"""SGD, Adam and AdamW: PyTorch's formulas, in the order PyTorch computes them.

What changes from step to step (learning rate, number of steps) is kept in tensors: kernels do not depend on its
value, and a replayed step goes on counting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from math import inf, log
from typing import Any

import numpy as np

from engine import dtype as dt
from engine.autograd import no_grad
from engine.errors import InvalidGraph
from engine.tensor import Tensor
from engine.tensor.differentiable import carried

Parameters = Iterable[Tensor] | Iterable[Mapping[str, Any]]


class Group:
    """Parameters that are stepped with the same options: `group["lr"]` and others, read and set by name."""

    def __init__(self, parameters: Iterable[Tensor], options: Mapping[str, Any], device: str) -> None:
        self.params = list(parameters)
        for name, value in options.items():
            _check_option(name, value)
        self._options = dict(options)
        self.rate = _number(float(options["lr"]), device)

    def __getitem__(self, name: str) -> Any:
        return self.params if name == "params" else self._options[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self._options:
            raise KeyError(f"no option {name!r}; there are {', '.join(self._options)}")
        _check_option(name, value)
        if name == "lr" and value != self._options["lr"]:
            self.rate.assign(_number(float(value), self.rate.device)).realize()
        self._options[name] = value

    @property
    def lr(self) -> float:
        """The learning rate."""
        return float(self._options["lr"])


class Optimizer(ABC):
    """Steps parameters along their gradients. One without a gradient stays; all are on one device.

    `parameters`: tensors that require gradients, or dicts {"params": tensors, option: value…}, whose options
    override the others. InvalidGraph if there are none, one needs no gradient, or an option does not exist.
    """

    def __init__(self, parameters: Parameters, defaults: Mapping[str, Any]) -> None:
        given: list[Any] = list(parameters)
        found = given if given and isinstance(given[0], Mapping) else [{"params": given}]
        self.device = _checked(found, defaults)
        self.param_groups = [
            Group(g["params"], {**defaults, **{k: v for k, v in g.items() if k != "params"}}, self.device)
            for g in found
        ]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group.params:
                parameter.grad = None

    @no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient, and compute what that takes."""
        changed: list[Any] = self._begin()
        for group in self.param_groups:
            for parameter in group.params:
                if parameter.grad is not None:
                    self._update(group, parameter, parameter.grad)
                    changed += [parameter, *self.state.get(parameter, {}).values()]
        changed += carried(self.device)
        if changed:
            changed[0].realize(*changed[1:])

    def _begin(self) -> list[Tensor]:
        """What every step changes, whatever has gradients."""
        return []

    @abstractmethod
    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        """Assign the parameter and its state their next values."""

    def _zeros(self, parameter: Tensor, name: str) -> Tensor:
        """State `name` of a parameter: zeros at first."""
        state = self.state.setdefault(parameter, {})
        if name not in state:
            state[name] = Tensor.zeros(*parameter.shape, dtype=parameter.dtype, device=self.device)
        return state[name]


# Options that are numbers from 0 on; betas are each from 0 up to, not including, 1.
_NOT_NEGATIVE = ("lr", "momentum", "weight_decay", "eps")


def _check_option(name: str, value: Any) -> None:
    """InvalidGraph for an option that no step can be made with."""
    if name == "betas":
        betas = tuple(value) if isinstance(value, Sequence) else ()
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise InvalidGraph(f"{value!r} must be two numbers from 0 up to, not including, 1", "betas")
    elif name in _NOT_NEGATIVE and not 0.0 <= float(value) < inf:
        raise InvalidGraph(f"{value!r} must be a number, 0 or more", name)


def _checked(groups: list[Mapping[str, Any]], defaults: Mapping[str, Any]) -> str:
    """The one device of all parameters."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    if not parameters:
        raise InvalidGraph("there are no parameters to step", "optimizer")
    for group in groups:
        unknown = group.keys() - defaults.keys() - {"params"}
        if unknown:
            raise InvalidGraph(
                f"no option {', '.join(unknown)}; there are {', '.join(defaults)}", "optimizer"
            )
    for number, parameter in enumerate(parameters):
        if not (parameter.requires_grad and parameter.is_leaf):
            raise InvalidGraph("is no leaf that requires gradients", f"optimizer: parameters[{number}]")
    devices = {parameter.device for parameter in parameters}
    if len(devices) > 1 or len(set(map(id, parameters))) < len(parameters):
        raise InvalidGraph("the parameters are on several devices, or one is given twice", "optimizer")
    return str(devices.pop())


def _number(value: float, device: str) -> Tensor:
    """A tensor of one float64 in memory of its own."""
    return Tensor(np.array(value, np.float64), device=device)


def _decayed(group: Group, parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with weight decay as a penalty: gradient + decay · parameter."""
    decay = group["weight_decay"]
    return gradient + parameter * decay if decay else gradient


class SGD(Optimizer):
    """parameter -= lr · gradient, or · the momentum's running sum; `nesterov` looks one step ahead."""

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            raise InvalidGraph("nesterov needs momentum, and no dampening", "SGD")
        options = {"lr": lr, "momentum": momentum, "dampening": dampening}
        super().__init__(parameters, options | {"weight_decay": weight_decay, "nesterov": nesterov})

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        gradient = _decayed(group, parameter, gradient)
        if group["momentum"]:
            gradient = self._with_momentum(group, parameter, gradient)
        parameter.assign(parameter - gradient * group.rate.cast(parameter.dtype))

    def _with_momentum(self, group: Group, parameter: Tensor, gradient: Tensor) -> Tensor:
        state = self.state.setdefault(parameter, {})
        if "momentum_buffer" in state:
            sum_ = state["momentum_buffer"]
            sum_.assign(sum_ * group["momentum"] + gradient * (1 - group["dampening"]))
        else:
            state["momentum_buffer"] = gradient.detach()
        moved = state["momentum_buffer"]
        return gradient + moved * group["momentum"] if group["nesterov"] else moved


class Adam(Optimizer):
    """Steps by running means of the gradient and of its square, both corrected for starting from 0.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization" (2015). Weight decay is a penalty on the
    gradient. Steps are counted for all parameters together.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(parameters, options)
        self._steps = _number(0.0, self.device)

    def _begin(self) -> list[Tensor]:
        self._steps.assign(self._steps + 1)
        return [self._steps]

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        self._move(group, parameter, parameter, _decayed(group, parameter, gradient))

    def _move(self, group: Group, parameter: Tensor, start: Tensor, gradient: Tensor) -> None:
        """`start` less the step, assigned to the parameter."""
        (beta1, beta2), dtype = group["betas"], parameter.dtype
        mean, square = self._zeros(parameter, "exp_avg"), self._zeros(parameter, "exp_avg_sq")
        mean.assign(mean + (gradient - mean) * (1 - beta1))
        square.assign(square * beta2 + gradient * gradient * (1 - beta2))
        size = (group.rate / self._correction(beta1)).cast(dtype)
        spread = square.sqrt() / self._correction(beta2).sqrt().cast(dtype) + group["eps"]
        parameter.assign(start - mean / spread * size)

    def _correction(self, beta: float) -> Tensor:
        """1 - beta ** steps."""
        return (
            1 - (self._steps * log(beta)).exp() if beta else Tensor.ones(dtype=dt.float64, device=self.device)
        )


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter by 1 - lr · decay before the step.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        kept = (1 - group.rate * group["weight_decay"]).cast(parameter.dtype)
        self._move(group, parameter, parameter * kept, gradient)
