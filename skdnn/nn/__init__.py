"""Layers, activation functions, losses and initializers: formulas, and nothing but formulas."""

from . import activations, functions, initializers, losses
from .layers.base import (
    Branch,
    Concatenate,
    Context,
    Layer,
    Params,
    ParamSpec,
    Residual,
    Sequential,
)
from .layers.basic import Activation, Dense, Dropout, FeatureScaling
from .layers.embedding import CategoricalEmbedding, NumericEmbedding
from .layers.normalization import BatchNorm, LayerNorm
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
