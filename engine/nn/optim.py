"""tinygrad's and PyTorch's place for the optimizers."""

from engine.nn.adam import Adam, AdamW
from engine.nn.learning_rates import CosineAnnealingLR, StepLR
from engine.nn.optimizers import SGD, Optimizer

__all__ = ["SGD", "Adam", "AdamW", "CosineAnnealingLR", "Optimizer", "StepLR"]
