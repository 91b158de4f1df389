"""The layers that a network is made of, each with its forward and backward pass side by side."""

from .base import (
    Branch,
    Concatenate,
    Context,
    Layer,
    Params,
    ParamSpec,
    RandomBits,
    Residual,
    Sequential,
)
from .basic import Activation, Dense, Dropout, FeatureScaling
from .embedding import CategoricalEmbedding, NumericEmbedding
from .normalization import BatchNorm, LayerNorm

__all__ = [
    "Activation",
    "BatchNorm",
    "Branch",
    "CategoricalEmbedding",
    "Concatenate",
    "Context",
    "Dense",
    "Dropout",
    "FeatureScaling",
    "Layer",
    "LayerNorm",
    "NumericEmbedding",
    "ParamSpec",
    "Params",
    "RandomBits",
    "Residual",
    "Sequential",
]
