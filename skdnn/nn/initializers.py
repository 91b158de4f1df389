"""First values of weights.

Each initializer is a function ``f(rng, shape) -> array`` with ``shape = (fan_in, fan_out)``: the
number of inputs and of outputs of the layer. With too small values the signal dies out from layer
to layer, with too large ones it saturates; the named initializers keep its variance constant. With
zeros all units of a layer compute, and therefore learn, the same.

Beside the functions there is "mlp", for networks that begin as MLPClassifier's do:
weights *and biases* are uniform in +-sqrt(6 / (fan_in + fan_out)), with 2 in place of 6 where the
activation is logistic. A bias does not know the fan of its layer, so the network is described with
a `UniformWithin` for each.

Examples
--------
>>> import numpy as np
>>> from skdnn.nn.initializers import he_normal
>>> he_normal(np.random.default_rng(0), (100, 50)).std().round(2)  # sqrt(2 / 100)
np.float64(0.14)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Initializer = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

SMALL = 0.01
"""Standard deviation of `normal` and half-width of `uniform`: "small random numbers"."""


def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Set everything to zero: right for biases, a symmetry that never breaks for weights."""
    return np.zeros(shape)


def ones(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Set everything to one: for factors, which begin by changing nothing."""
    return np.ones(shape)


@dataclass(frozen=True)
class UniformWithin:
    """Draw uniformly from (-half_width, half_width), whatever the shape.

    Parameters
    ----------
    half_width : float
        The largest number, in size.
    """

    half_width: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.uniform(-self.half_width, self.half_width, shape)


@dataclass(frozen=True)
class Scaled:
    """Draw as another initializer does, and multiply by a factor.

    Parameters
    ----------
    initializer : callable
        The other one.
    factor : float
        What its numbers are multiplied by.
    """

    initializer: Initializer
    factor: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return self.factor * self.initializer(rng, shape)


def standard_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from N(0, 1), whatever the shape: as large as the columns of a standardised table."""
    return rng.standard_normal(shape)


def normal_of_random_scale(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from N(0, s^2), with s log-uniform between 0.05 and 1, drawn anew for every array.

    For frequencies, whose right size is unknown: each member of an ensemble gets another scale.
    """
    scale = math.exp(rng.uniform(math.log(0.05), 0.0))
    return rng.normal(0.0, scale, shape)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw small normal numbers, N(0, 0.01^2), whatever the width of the layer."""
    return rng.normal(0.0, SMALL, shape)


def uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw small uniform numbers, U(-0.01, 0.01), whatever the width of the layer."""
    return rng.uniform(-SMALL, SMALL, shape)


def he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from N(0, 2 / fan_in): keeps the mean square through ReLU (He et al., ICCV 2015)."""
    return rng.normal(0.0, math.sqrt(2.0 / shape[0]), shape)


def he_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw uniformly with the variance of `he_normal`: U(-a, a), a = sqrt(6 / fan_in)."""
    a = math.sqrt(6.0 / shape[0])
    return rng.uniform(-a, a, shape)


def glorot_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from N(0, 2 / (fan_in + fan_out)), also called Xavier (Glorot, Bengio, AISTATS 2010)."""
    return rng.normal(0.0, math.sqrt(2.0 / sum(shape)), shape)


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw uniformly with the variance of `glorot_normal`: a = sqrt(6 / (fan_in + fan_out))."""
    a = math.sqrt(6.0 / sum(shape))
    return rng.uniform(-a, a, shape)


def lecun_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from N(0, 1 / fan_in), which SELU needs (LeCun et al., "Efficient BackProp", 1998)."""
    return rng.normal(0.0, math.sqrt(1.0 / shape[0]), shape)


def lecun_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw uniformly with the variance of `lecun_normal`: U(-a, a), a = sqrt(3 / fan_in)."""
    a = math.sqrt(3.0 / shape[0])
    return rng.uniform(-a, a, shape)


def orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a random matrix with orthonormal rows or columns (Saxe et al., ICLR 2014).

    The Q of a QR decomposition of a normal matrix, its signs fixed by R's diagonal so that every
    orthogonal matrix is equally likely; no product with it stretches the signal.
    """
    n_large, n_small = max(shape), min(shape)
    Q, R = np.linalg.qr(rng.normal(size=(n_large, n_small)))
    Q *= np.sign(np.diagonal(R))
    return Q if shape[0] >= shape[1] else Q.T


INITIALIZERS: dict[str, Initializer] = {
    "zeros": zeros,
    "normal": normal,
    "uniform": uniform,
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
    "lecun_normal": lecun_normal,
    "lecun_uniform": lecun_uniform,
    "orthogonal": orthogonal,
}

INITIALIZER_NAMES = ("auto", *INITIALIZERS, "mlp")
"""What a network can be told; "auto" and "mlp" depend on the activation that follows."""
