"""Adam and AdamW: PyTorch's formulas, in the order PyTorch computes them."""

from __future__ import annotations

from math import log
from typing import Any

from engine import dtype as dt
from engine.nn.optimizers import Group, Optimizer, Parameters, decayed, number
from engine.tensor import Tensor


class Adam(Optimizer):
    """Steps by running means of the gradient and of its square, both corrected for starting from 0.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization" (2015). Weight decay is a penalty on the
    gradient. `amsgrad` divides by the greatest mean square so far (Reddi, Kale and Kumar, 2018). Steps are counted
    for each parameter: one that had no gradient for a while is corrected by the steps that it took.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
    ) -> None:
        options: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        options |= {"amsgrad": amsgrad, "maximize": maximize}
        super().__init__(parameters, options)
        self._steps: dict[
            Tensor, Tensor
        ] = {}  # of each parameter; one tensor for all that were stepped together

    def _begin(self) -> list[Tensor]:
        """Count a step of every parameter that has a gradient: those that always had one together share the count."""
        stepped = [p for group in self.param_groups for p in group.params if p.grad is not None]
        sharing: dict[int, list[Tensor]] = {}
        for parameter in stepped:
            sharing.setdefault(id(self._steps.get(parameter)), []).append(parameter)
        changed = []
        for together in sharing.values():
            before = self._steps.get(together[0])
            all_of_them = [p for p, count in self._steps.items() if count is before]
            if before is None or len(all_of_them) > len(together):
                steps = number(0.0, self.device)
                if before is not None:
                    steps.assign(before)
                self._steps.update(dict.fromkeys(together, steps))
            else:
                steps = before
            changed.append(steps.assign(steps + 1))
        return changed

    def _counted(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"step": self._steps[parameter]}

    def _take(self, parameter: Tensor, name: str, value: Tensor) -> None:
        if name != "step":
            super()._take(parameter, name, value)
            return
        alike = (s for p, s in self._steps.items() if p in self.state and s.item() == value.item())
        self._steps[parameter] = next(alike, number(float(value.item()), self.device))

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        self._move(group, parameter, parameter, decayed(group, parameter, gradient))

    def _move(self, group: Group, parameter: Tensor, start: Tensor, gradient: Tensor) -> None:
        """`start` less the step, assigned to the parameter."""
        (beta1, beta2), dtype = group["betas"], parameter.dtype
        mean, square = self._zeros(parameter, "exp_avg"), self._zeros(parameter, "exp_avg_sq")
        mean.assign(mean + (gradient - mean) * (1 - beta1))
        square.assign(square * beta2 + gradient * gradient * (1 - beta2))
        if group["amsgrad"]:
            greatest = self._zeros(parameter, "max_exp_avg_sq")
            square = greatest.assign(greatest.maximum(square))
        steps = self._steps[parameter]
        size = (group.rate / self._correction(steps, beta1)).cast(dtype)
        spread = square.sqrt() / self._correction(steps, beta2).sqrt().cast(dtype) + group["eps"]
        parameter.assign(start - mean / spread * size)

    def _correction(self, steps: Tensor, beta: float) -> Tensor:
        """1 - beta ** steps."""
        return 1 - (steps * log(beta)).exp() if beta else Tensor.ones(dtype=dt.float64, device=self.device)


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
        amsgrad: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay, amsgrad, maximize)

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        kept = (1 - group.rate * group["weight_decay"]).cast(parameter.dtype)
        self._move(group, parameter, parameter * kept, gradient)
