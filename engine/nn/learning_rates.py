"""Learning rates that change by the number of steps: call `step()` once after each step of the optimizer (or epoch).

Names, arguments and values are those of PyTorch's `lr_scheduler`. A rate follows from the first one and the number of
steps alone, so that several of them for one optimizer do not build on each other, except in SequentialLR.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from math import cos, inf, pi
from typing import Any

from engine.errors import InvalidGraph
from engine.nn.optimizers import Group, Optimizer


class LearningRate(ABC):
    """Sets the rates of an optimizer's groups from what they were at first and the number of steps."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.first = [_first_rate(group) for group in optimizer.param_groups]
        self.last_epoch = 0
        self._set()

    def step(self, epoch: int | None = None) -> None:
        """Count a step (or go to that one) and set the rates for the next."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._set()

    def _set(self) -> None:
        for number, (group, first) in enumerate(zip(self.optimizer.param_groups, self.first, strict=False)):
            group["lr"] = self.rate(first, self.last_epoch, number)

    @abstractmethod
    def rate(self, first: float, steps: int, group: int) -> float:
        """The rate after so many steps of the group of that number, which started with `first`."""

    def get_last_lr(self) -> list[float]:
        """The rate of each group now."""
        return [group.lr for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from: all but the optimizer and functions."""
        return {k: v for k, v in vars(self).items() if k != "optimizer" and not callable(v)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        vars(self).update(state)


def _first_rate(group: Group) -> float:
    if group.first_rate is None:
        group.first_rate = group.lr
    return group.first_rate


class LambdaLR(LearningRate):
    """The first rate times a function of the number of steps (or one for each group)."""

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        given = [lr_lambda] * len(optimizer.param_groups) if callable(lr_lambda) else list(lr_lambda)
        if len(given) != len(optimizer.param_groups):
            raise InvalidGraph(
                f"{len(given)} functions for {len(optimizer.param_groups)} groups", "lr_lambda"
            )
        self._lambdas = given
        super().__init__(optimizer)

    def rate(self, first: float, steps: int, group: int) -> float:
        """See `LearningRate`."""
        return first * self._lambdas[group](steps)

    def state_dict(self) -> dict[str, Any]:
        """As `LearningRate.state_dict`, without the functions."""
        return {k: v for k, v in super().state_dict().items() if k != "_lambdas"}


class StepLR(LearningRate):
    """Multiplied by `gamma` every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def rate(self, first: float, steps: int, group: int) -> float:
        """See `LearningRate`."""
        return float(first * self.gamma ** (steps // self.step_size))


class MultiStepLR(LearningRate):
    """Multiplied by `gamma` at each of the steps named."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer)

    def rate(self, first: float, steps: int, group: int) -> float:
        """See `LearningRate`."""
        return float(first * self.gamma ** bisect_right(self.milestones, steps))


class ExponentialLR(LearningRate):
    """Multiplied by `gamma` every step."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, first: float, steps: int, group: int) -> float:
        """See `LearningRate`."""
        return float(first * self.gamma**steps)


class LinearLR(LearningRate):
    """Times a factor that goes in a line from `start_factor` to `end_factor` in `total_iters` steps, and stays."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise InvalidGraph(
                f"{start_factor} and {end_factor} must be from 0 to 1", "start_factor, end_factor"
            )
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def rate(self, first: float, steps: int, group: int) -> float:
        """See `LearningRate`."""
        part = min(steps, self.total_iters) / self.total_iters
        return first * (self.start_factor + (self.end_factor - self.start_factor) * part)


class ConstantLR(LearningRate):
    """Times `factor` for the first `total_iters` steps."""

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5) -> None:
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer)

    def rate(self, first: float, steps: int, group: int) -> float:
        """See `LearningRate`."""
        return first * (self.factor if steps < self.total_iters else 1.0)


class PolynomialLR(LearningRate):
    """Down to 0 in `total_iters` steps by a power of the share of them that is left."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer)

    def rate(self, first: float, steps: int, group: int) -> float:
        """See `LearningRate`."""
        return float(first * (1.0 - min(self.total_iters, steps) / self.total_iters) ** self.power)


class CosineAnnealingLR(LearningRate):
    """Half a cosine from the first rate down to `eta_min` in `T_max` steps, and up again in as many.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017).
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, first: float, steps: int, group: int) -> float:
        """See `LearningRate`."""
        return self.eta_min + (first - self.eta_min) * (1 + cos(pi * steps / self.T_max)) / 2


class CosineAnnealingWarmRestarts(LearningRate):
    """Half a cosine down in `T_0` steps, again from the start in `T_mult` times as many, and so on.

    Source: Loshchilov and Hutter (2017).
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:
        if T_0 < 1 or T_mult < 1:
            raise InvalidGraph(f"{T_0} and {T_mult} must be whole numbers, 1 or more", "T_0, T_mult")
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        super().__init__(optimizer)

    def rate(self, first: float, steps: int, group: int) -> float:
        """See `LearningRate`."""
        length = self.T_0
        while steps >= length:
            steps, length = steps - length, length * self.T_mult
        return self.eta_min + (first - self.eta_min) * (1 + cos(pi * steps / length)) / 2


class OneCycleLR(LearningRate):
    """Up to `max_lr` in a share `pct_start` of `total_steps`, then down to nearly nothing.

    Source: Smith and Topin, "Super-convergence" (2018). Starts at max_lr / div_factor and ends at that over
    final_div_factor. With `cycle_momentum` the momentum (of Adam the first beta) goes down and up meanwhile, for which
    kernels are compiled anew every step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        if cycle_momentum and not {"momentum", "betas"} & optimizer.defaults.keys():
            raise InvalidGraph("the optimizer has no momentum: pass False", "cycle_momentum")
        if anneal_strategy not in ("cos", "linear"):
            raise InvalidGraph(f"{anneal_strategy!r} is not 'cos' or 'linear'", "anneal_strategy")
        count = total_steps or (epochs or 0) * (steps_per_epoch or 0)
        if count < 1:
            raise InvalidGraph("give total_steps, or epochs and steps_per_epoch", "total_steps")
        self.max_lr, self.total_steps, self.pct_start, self.strategy = (
            max_lr,
            count,
            pct_start,
            anneal_strategy,
        )
        self.momenta = (max_momentum, base_momentum) if cycle_momentum else None
        self.start_lr = max_lr / div_factor
        self.end_lr = self.start_lr / final_div_factor
        super().__init__(optimizer)

    def rate(self, first: float, steps: int, group: int) -> float:
        """See `LearningRate`."""
        return self._on_the_way(steps, self.start_lr, self.max_lr, self.end_lr)

    def _set(self) -> None:
        super()._set()
        if self.momenta is None:
            return
        most, least = self.momenta
        momentum = self._on_the_way(self.last_epoch, most, least, most)
        for group in self.optimizer.param_groups:
            if "betas" in group.options:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum

    def _on_the_way(self, steps: int, start: float, middle: float, end: float) -> float:
        top, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
        if steps > last:
            raise InvalidGraph(f"step {steps} is beyond the {self.total_steps} that were said", "total_steps")
        if steps <= top:
            return self._between(start, middle, steps / top)
        return self._between(middle, end, (steps - top) / (last - top))

    def _between(self, start: float, end: float, share: float) -> float:
        if self.strategy == "linear":
            return start + (end - start) * share
        return end + (start - end) / 2 * (1 + cos(pi * share))


class SequentialLR(LearningRate):
    """One after the other: the next begins, from its own step 0, at each of the steps named."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LearningRate], milestones: Sequence[int]
    ) -> None:
        if len(schedulers) != len(milestones) + 1:
            raise InvalidGraph(f"{len(schedulers)} schedulers need one fewer, not {milestones}", "milestones")
        self._parts, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer)

    def rate(self, first: float, steps: int, group: int) -> float:
        """See `LearningRate`."""
        place = bisect_right(self.milestones, steps)
        begun = self.milestones[place - 1] if place else 0
        return self._parts[place].rate(first, steps - begun, group)

    def state_dict(self) -> dict[str, Any]:
        """As `LearningRate.state_dict`; how far each part has come follows from the number of steps."""
        return {k: v for k, v in super().state_dict().items() if k != "_parts"}


class ReduceLROnPlateau:
    """Times `factor` whenever a number given to `step` has not become better for more than `patience` steps.

    Better is less (mode "min") or more ("max") than the best by a share `threshold` of it ("rel") or by that ("abs").
    After a change nothing is counted for `cooldown` steps.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs") or factor >= 1.0:
            given = f"{mode!r}, {threshold_mode!r}, {factor}"
            raise InvalidGraph(
                f"{given}: not min or max, rel or abs, below 1", "mode, threshold_mode, factor"
            )
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        self.min_lr, self.eps = min_lr, eps
        self.best = inf if mode == "min" else -inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def step(self, metrics: Any) -> None:
        """Look at a number, or a tensor of one."""
        value = float(metrics)
        self.last_epoch += 1
        self.num_bad_epochs += 1
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        if self.cooldown_counter > 0:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            for group in self.optimizer.param_groups:
                lower = max(group.lr * self.factor, self.min_lr)
                if group.lr - lower > self.eps:
                    group["lr"] = lower

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        room = self.threshold * (abs(self.best) if self.threshold_mode == "rel" else 1.0)
        return (
            sign * value > sign * self.best + room
            if abs(self.best) != inf
            else sign * value > sign * self.best
        )

    get_last_lr, state_dict = LearningRate.get_last_lr, LearningRate.state_dict
    load_state_dict = LearningRate.load_state_dict
