"""torch.optim, which tinygrad has as nn.optim."""

from engine.nn import learning_rates as lr_scheduler
from engine.nn.adam import Adam, AdamW
from engine.nn.learning_rates import CosineAnnealingLR, StepLR
from engine.nn.optimizers import SGD, Optimizer
from engine.nn.squares import Adagrad, RMSprop

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "Optimizer",
    "RMSprop",
    "StepLR",
    "lr_scheduler",
]
