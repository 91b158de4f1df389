"""The layers a network is made of, each with its forward and backward pass side by side."""

from .activation import Activation
from .base import Buffer, Layer, ParamSpec, Plan, Slot
from .dense import Dense
from .dropout import Dropout

__all__ = ["Activation", "Buffer", "Dense", "Dropout", "Layer", "ParamSpec", "Plan", "Slot"]
