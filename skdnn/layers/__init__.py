"""The layers a network is made of, each with its forward and backward pass side by side."""

from .activation import Activation
from .base import (
    Batch,
    Branch,
    Buffer,
    Layer,
    ParamSpec,
    Plan,
    Slot,
    Steps,
    backward_through,
    forward_through,
)
from .combine import Concatenate
from .dense import Dense
from .dropout import Dropout
from .embedding import CategoricalEmbedding, NumericEmbedding
from .normalization import BatchNorm, LayerNorm
from .residual import Residual
from .scaling import FeatureScaling

__all__ = [
    "Activation",
    "Batch",
    "BatchNorm",
    "Branch",
    "Buffer",
    "CategoricalEmbedding",
    "Concatenate",
    "Dense",
    "Dropout",
    "FeatureScaling",
    "Layer",
    "LayerNorm",
    "NumericEmbedding",
    "ParamSpec",
    "Plan",
    "Residual",
    "Slot",
    "Steps",
    "backward_through",
    "forward_through",
]
