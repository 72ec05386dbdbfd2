"""Layers, losses, optimizers and checkpoints; names, formulas and initial distributions are PyTorch's."""

from engine.nn.attention import MultiHeadAttention, attention, rotary, rotate
from engine.nn.checkpoint import safe_load, safe_save
from engine.nn.dropout import Dropout
from engine.nn.learning_rates import CosineAnnealingLR, StepLR
from engine.nn.linear import Embedding, Linear
from engine.nn.losses import cross_entropy, mse_loss
from engine.nn.module import Module, Sequential
from engine.nn.normalization import (
    BatchNorm,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    RMSNorm,
)
from engine.nn.optimizers import SGD, Adam, AdamW

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CosineAnnealingLR",
    "Dropout",
    "Embedding",
    "GroupNorm",
    "InstanceNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "Linear",
    "Module",
    "MultiHeadAttention",
    "RMSNorm",
    "Sequential",
    "StepLR",
    "attention",
    "cross_entropy",
    "mse_loss",
    "rotary",
    "rotate",
    "safe_load",
    "safe_save",
]
