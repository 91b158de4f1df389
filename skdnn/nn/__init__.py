"""Layers, activation functions, losses and initializers: formulas, and nothing but formulas."""

from . import activations, functions, initializers, losses
from .embeddings import CategoricalEmbedding, NumericEmbedding
from .layers import (
    Activation,
    BatchNorm,
    Branch,
    Concatenate,
    Context,
    Dense,
    Dropout,
    FeatureScaling,
    Layer,
    LayerNorm,
    Params,
    ParamSpec,
    Residual,
    Sequential,
)
from .losses import BinaryCrossEntropy, FocalLoss, Loss
from .network import Network

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
