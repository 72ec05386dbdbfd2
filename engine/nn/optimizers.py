"""What steps parameters, and SGD: PyTorch's formulas, in the order PyTorch computes them.

What changes from step to step (learning rate, number of steps) is kept in tensors: kernels do not depend on its
value, and a replayed step goes on counting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any

import numpy as np

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
        self.first_rate: float | None = None  # what schedulers start from: the rate when the first was made
        self.rate = number(float(options["lr"]), device)

    def __getitem__(self, name: str) -> Any:
        return self.params if name == "params" else self._options[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self._options:
            raise KeyError(f"no option {name!r}; there are {', '.join(self._options)}")
        _check_option(name, value)
        if name == "lr" and value != self._options["lr"]:
            self.rate.assign(number(float(value), self.rate.device)).realize()
        self._options[name] = value

    @property
    def options(self) -> dict[str, Any]:
        """All options but the parameters."""
        return dict(self._options)

    @property
    def lr(self) -> float:
        """The learning rate."""
        return float(self._options["lr"])


class Optimizer(ABC):
    """Steps parameters along their gradients. One without a gradient stays; all are on one device.

    `parameters`: tensors that require gradients (or were frozen), or dicts {"params": tensors, option: value…}, whose
    options override the others. InvalidGraph if there are none, one never needed a gradient, or an option does not
    exist.
    """

    def __init__(self, parameters: Parameters, defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        given: list[Any] = list(parameters)
        found = given if given and isinstance(given[0], Mapping) else [{"params": given}]
        self.device = _checked(found, defaults)
        self.param_groups = [
            Group(g["params"], {**defaults, **{k: v for k, v in g.items() if k != "params"}}, self.device)
            for g in found
        ]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group.params:
                parameter.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient, and compute what that takes.

        `closure` is called before, with gradients followed: what it returns, a loss, is returned.
        """
        found = None if closure is None else closure()
        self._step()
        return found

    @no_grad()
    def _step(self) -> None:
        changed: list[Any] = self._begin()
        for group in self.param_groups:
            for parameter in group.params:
                if parameter.grad is not None:
                    gradient = -parameter.grad if group["maximize"] else parameter.grad
                    self._update(group, parameter, gradient)
                    changed += [parameter, *self.state.get(parameter, {}).values()]
        changed += carried(self.device)
        if changed:
            changed[0].realize(*changed[1:])

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Step the parameters {"params": tensors, option: value…} too. InvalidGraph as for the first ones."""
        known = [{"params": one.params} for one in self.param_groups]
        _checked([*known, group], self.defaults)
        options = {**self.defaults, **{k: v for k, v in group.items() if k != "params"}}
        self.param_groups.append(Group(group["params"], options, self.device))

    def state_dict(self) -> dict[str, Any]:
        """What the steps so far have left, as PyTorch keeps it: tensors by the number of their parameter, options.

        The tensors are the optimizer's own, which its next step changes: clone() what is to be kept.
        """
        numbers = self._numbers()
        state = {numbers[p]: {**held, **self._counted(p)} for p, held in self.state.items()}
        groups = [
            {**group.options, "params": [numbers[parameter] for parameter in group.params]}
            for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups}

    @no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave (its tensors are copied). InvalidGraph where the parameters are others."""
        groups = state["param_groups"]
        own, given = ([len(group["params"]) for group in all_] for all_ in (self.param_groups, groups))
        if own != given:
            raise InvalidGraph(f"groups of {given} parameters do not fit those of {own}", "load_state_dict")
        for group, options in zip(self.param_groups, groups, strict=True):
            for name, value in options.items():
                if name != "params":
                    group[name] = tuple(value) if isinstance(value, list) else value
        order = [number for group in groups for number in group["params"]]
        mine = {given: parameter for parameter, place in self._numbers().items() for given in [order[place]]}
        self.state = {}
        for number, held in state["state"].items():
            parameter = mine[int(number)]
            for name, value in held.items():
                self._take(parameter, name, _copied(value, parameter, name))

    def _numbers(self) -> dict[Tensor, int]:
        """The parameters, numbered through all groups."""
        return {p: number for number, p in enumerate(p for group in self.param_groups for p in group.params)}

    def _counted(self, parameter: Tensor) -> dict[str, Tensor]:
        """What is known of a parameter besides its state."""
        return {}

    def _take(self, parameter: Tensor, name: str, value: Tensor) -> None:
        """Put back what `state_dict` gave of a parameter."""
        self.state.setdefault(parameter, {})[name] = value

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
        if not parameter.is_parameter:
            raise InvalidGraph(
                "is no leaf that requires gradients, nor one that was frozen",
                f"optimizer: parameters[{number}]",
            )
    devices = {parameter.device for parameter in parameters}
    if len(devices) > 1 or len(set(map(id, parameters))) < len(parameters):
        raise InvalidGraph("the parameters are on several devices, or one is given twice", "optimizer")
    return str(devices.pop())


def _copied(value: Any, parameter: Tensor, name: str) -> Tensor:
    """A tensor of its own for a parameter's state. InvalidGraph where it has another shape."""
    found = Tensor(value.numpy() if isinstance(value, Tensor) else np.asarray(value), device=parameter.device)
    if name != "step" and found.shape != parameter.shape:
        raise InvalidGraph(
            f"{name} has the shape {found.shape}, its parameter {parameter.shape}", "load_state_dict"
        )
    return found


def number(value: float, device: str) -> Tensor:
    """A tensor of one float64 in memory of its own."""
    return Tensor(np.array(value, np.float64), device=device)


def decayed(group: Group, parameter: Tensor, gradient: Tensor) -> Tensor:
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
        maximize: bool = False,
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            raise InvalidGraph("nesterov needs momentum, and no dampening", "SGD")
        options = {"lr": lr, "momentum": momentum, "dampening": dampening}
        super().__init__(
            parameters, options | {"weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize}
        )

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        gradient = decayed(group, parameter, gradient)
        if group["momentum"]:
            gradient = self._with_momentum(group, parameter, gradient)
        parameter.assign(parameter - gradient * group.rate.cast(parameter.dtype))

    def _with_momentum(self, group: Group, parameter: Tensor, gradient: Tensor) -> Tensor:
        state = self.state.setdefault(parameter, {})
        if "momentum_buffer" in state:
            sum_ = state["momentum_buffer"]
            sum_.assign(sum_ * group["momentum"] + gradient * (1 - group["dampening"]))
        else:
            state["momentum_buffer"] = gradient.clone().detach()
        moved = state["momentum_buffer"]
        return gradient + moved * group["momentum"] if group["nesterov"] else moved
