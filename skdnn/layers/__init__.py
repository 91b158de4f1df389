"""The layers a network is made of, each with its forward and backward pass side by side."""

from .activation import Activation
from .base import (
    Batch,
    Buffer,
    Layer,
    ParamSpec,
    Plan,
    Slot,
    backward_through,
    forward_through,
)
from .dense import Dense
from .dropout import Dropout
from .normalization import BatchNorm, LayerNorm
from .residual import Residual

__all__ = [
    "Activation",
    "Batch",
    "BatchNorm",
    "Buffer",
    "Dense",
    "Dropout",
    "Layer",
    "LayerNorm",
    "ParamSpec",
    "Plan",
    "Residual",
    "Slot",
    "backward_through",
    "forward_through",
]
