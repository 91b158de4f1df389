"""Layers, activation functions, losses and initializers: formulas, and nothing but formulas."""

from . import activations, functions, initializers, losses
from .layers import (
    Activation,
    BatchNorm,
    CategoricalEmbedding,
    Context,
    Dense,
    Dropout,
    FeatureScaling,
    Layer,
    LayerNorm,
    NumericEmbedding,
    Params,
    ParamSpec,
)
from .losses import BinaryCrossEntropy, FocalLoss, Loss
from .network import Branch, Concatenate, Network, Residual, Sequential

__all__ = [
    "Activation",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Branch",
    "CategoricalEmbedding",
    "Concatenate",
    "Context",
    "Dense",
    "Dropout",
    "FeatureScaling",
    "FocalLoss",
    "Layer",
    "LayerNorm",
    "Loss",
    "Network",
    "NumericEmbedding",
    "ParamSpec",
    "Params",
    "Residual",
    "Sequential",
    "activations",
    "functions",
    "initializers",
    "losses",
]
