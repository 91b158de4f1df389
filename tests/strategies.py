"""Hypothesis strategies, named by what they draw and its shape.

M counts members, N samples, I inputs. Hypothesis draws shapes and seeds, and NumPy fills the
arrays: a failing example shrinks to the smallest network.
"""

# ruff: noqa: N802, N816 - the shape ends the name.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from tables import ACTIVATION_ROWS

from skdnn.nn import Activation, BatchNorm, Dense, Dropout, LayerNorm, Network, Residual
from skdnn.nn.activations import make_activation

NORMALIZATIONS = (None, "batch", "layer")
NORMALIZING_LAYERS = {"batch": (BatchNorm(),), "layer": (LayerNorm(),), None: ()}
EXTREME_LOGITS = [
    sign * size for size in (0.0, 1e-300, 36.0, 710.0, 1e4, 1e30) for sign in (1.0, -1.0)
]

seeds = st.integers(0, 2**32 - 1)
n_samples = st.integers(1, 33)
n_features = st.integers(1, 6)
shapes_NI = st.tuples(n_samples, n_features)
logit_of_any_size = st.sampled_from(EXTREME_LOGITS) | st.floats(-1e30, 1e30)


@st.composite
def labels_N(draw, n_samples):
    """Labels 0.0 and 1.0; one of them may be missing."""
    return np.random.default_rng(draw(seeds)).integers(0, 2, n_samples).astype(np.float64)


@st.composite
def weights_N(draw, n_samples):
    """Sample weights: None, or numbers of which some are zero, and sometimes all."""
    share_of_zeros = draw(st.sampled_from([None, 0.0, 0.3, 1.0]))
    if share_of_zeros is None:
        return None
    rng = np.random.default_rng(draw(seeds))
    return rng.exponential(size=n_samples) * (rng.random(n_samples) >= share_of_zeros)


@st.composite
def logits_N(draw):
    """Logits of any size that a float can have, up to 1e30."""
    return draw(numpy_st.arrays(np.float64, st.integers(1, 8), elements=logit_of_any_size))


@st.composite
def networks(draw, activations=tuple(ACTIVATION_ROWS), normalizations=(None,)):
    """Networks of 1 to 4 dense layers and 1 to 3 members, with any activations and dropout.

    Some layers are as wide as their input, and then residual if that is drawn.
    """
    n_in, is_residual = draw(n_features), draw(st.booleans())
    normalization = NORMALIZING_LAYERS[draw(st.sampled_from(normalizations))]
    layers, width = [], n_in
    for _ in range(draw(st.integers(0, 3))):
        n_units = draw(st.integers(1, 6) | st.just(4))
        function = make_activation(draw(st.sampled_from(activations)))
        block = [Dense(n_units), *normalization, Activation(function)]
        rate = draw(st.sampled_from([0.0, 0.0, 0.2, 0.5]))
        block += [Dropout(rate)] if rate else []
        layers += [Residual(tuple(block))] if is_residual and n_units == width else block
        width = n_units
    return Network((*layers, Dense(1)), n_in, draw(st.integers(1, 3)))


class NetworkAndRows(NamedTuple):
    """A network, and rows for it."""

    network: Network
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None


@st.composite
def networks_and_rows(draw, activations=tuple(ACTIVATION_ROWS), normalizations=(None,)):
    """A network and 1 to 33 rows for it, with weights or without."""
    network, size = draw(networks(activations, normalizations)), draw(n_samples)
    X = np.random.default_rng(draw(seeds)).normal(size=(size, network.n_in))
    return NetworkAndRows(network, X, draw(labels_N(size)), draw(weights_N(size)))
