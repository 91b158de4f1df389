"""The layers that a network is made of, each with its forward and backward pass side by side."""

from .activation import Activation, Dropout
from .base import Context, Layer, Params, ParamSpec, RandomBits, Sequential
from .combine import Branch, Concatenate, Residual
from .dense import Dense, FeatureScaling
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
