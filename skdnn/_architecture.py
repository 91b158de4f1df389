"""From a list with one entry for each layer to the network that it describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._network import Network
from .activations import Identity, make_activation
from .initializers import INITIALIZERS
from .layers import Activation, Dense, Dropout, Layer


def build_network(
    n_in: int,
    *,
    hidden_layer_sizes: Sequence[int],
    activation: Sequence[Any],
    dropout: Sequence[float],
    initialization: str = "auto",
    n_members: int = 1,
) -> Network:
    """Describe a network of dense layers that ends in one logit.

    Each hidden layer is a linear step, its activation, and its dropout; identity and a rate of zero
    leave out the layer that would do nothing.

    Parameters
    ----------
    n_in : int
        Number of features.
    hidden_layer_sizes, activation, dropout : sequences of the same length
        Width, activation function and dropout rate of each hidden layer.
    initialization : str, default="auto"
        A name from `skdnn.initializers`; "auto" takes the one that suits the activation after each
        layer, and Glorot's for the output.
    n_members : int, default=1
        Networks side by side.
    """
    layers: list[Layer] = []
    is_auto = initialization == "auto"
    for n_units, function, rate in zip(hidden_layer_sizes, activation, dropout, strict=True):
        g = make_activation(function)
        layers.append(Dense(n_units, INITIALIZERS[g.initialization if is_auto else initialization]))
        if not isinstance(g, Identity):
            layers.append(Activation(g))
        if rate > 0.0:
            layers.append(Dropout(rate))
    layers.append(Dense(1, INITIALIZERS["glorot_uniform" if is_auto else initialization]))
    return Network(tuple(layers), n_in, n_members)
