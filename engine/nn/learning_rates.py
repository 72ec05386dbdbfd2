"""Learning rates that change by the number of steps: call `step()` once after each step of the optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import cos, pi

from engine.nn.optimizers import Optimizer


class LearningRate(ABC):
    """Sets the rates of an optimizer's groups from what they were at first and the number of steps."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.first = [group.lr for group in optimizer.param_groups]
        self.steps = 0

    def step(self) -> None:
        """Count a step and set the rates for the next."""
        self.steps += 1
        for group, first in zip(self.optimizer.param_groups, self.first, strict=True):
            group["lr"] = self.rate(first)

    @abstractmethod
    def rate(self, first: float) -> float:
        """The rate after `steps` of a group that started with `first`."""


class StepLR(LearningRate):
    """Multiplied by `gamma` every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        self.step_size, self.gamma = step_size, gamma

    def rate(self, first: float) -> float:
        """See `LearningRate`."""
        return float(first * self.gamma ** (self.steps // self.step_size))


class CosineAnnealingLR(LearningRate):
    """Half a cosine from the first rate down to `eta_min` after `T_max` steps; it stays there.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017).
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        super().__init__(optimizer)
        self.T_max, self.eta_min = T_max, eta_min

    def rate(self, first: float) -> float:
        """See `LearningRate`."""
        part = min(self.steps, self.T_max) / self.T_max
        return self.eta_min + (first - self.eta_min) * (1 + cos(pi * part)) / 2
