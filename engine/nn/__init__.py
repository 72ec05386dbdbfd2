"""Layers, losses, optimizers and checkpoints; names, formulas and initial distributions are PyTorch's."""

from engine.nn.activations import GELU, AvgPool2d, Flatten, MaxPool2d, ReLU, Sigmoid, SiLU, Tanh
from engine.nn.attention import MultiHeadAttention, rotary, rotate
from engine.nn.checkpoint import safe_load, safe_save
from engine.nn.convolution import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d
from engine.nn.dropout import Dropout
from engine.nn.learning_rates import CosineAnnealingLR, StepLR
from engine.nn.linear import Embedding, Linear
from engine.nn.losses import CrossEntropyLoss, MSELoss
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
    "GELU",
    "SGD",
    "Adam",
    "AdamW",
    "AvgPool2d",
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "CosineAnnealingLR",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "GroupNorm",
    "InstanceNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "MultiHeadAttention",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "StepLR",
    "Tanh",
    "rotary",
    "rotate",
    "safe_load",
    "safe_save",
]
