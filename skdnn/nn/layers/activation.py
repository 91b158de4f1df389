"""The non-linear step of a neuron, and dropout: what is done to each unit by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..activations import make_activation
from .base import Array, Context, Grads, Layer, Params


@dataclass(frozen=True)
class Activation(Layer):
    """Apply an activation function element by element.

    Forward:  ``y = g(x)``

    Backward: ``grad_x = grad_y * g'(x)``

    Shape: x and y (n_samples, n_units).

    Parameters
    ----------
    function : str or activation function
        A name, an object of `skdnn.nn.activations`, or one's own with ``value(z)`` and
        ``derivative(z)``.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.nn import Activation, Context, Params
    >>> Activation("relu").forward(np.array([[-1.0, 2.0]]), Params({}), Context())
    array([[0., 2.]])
    """

    function: Any

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        return make_activation(self.function).value(x)

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        return grad_y * make_activation(self.function).derivative(x), {}


@dataclass(frozen=True)
class Dropout(Layer):
    """Zero each unit with probability `rate` in training; do nothing in prediction.

    Forward:  ``y = x * mask``, with mask = 0 with probability p, else 1 / (1 - p)

    Backward: ``grad_x = grad_y * mask``, and in prediction ``grad_x = grad_y``

    The survivors are scaled up ("inverted" dropout), so that the expected output is x and
    prediction needs no correction. Each member draws from its own stream.

    Shape: x, mask and y (n_samples, n_units).

    Parameters
    ----------
    rate : float
        Probability of *dropping* a unit, in [0, 1). The random numbers have 16 bits, which are
        drawn faster than floats: p is the multiple of 2^-16 next to the rate, and below 1.

    References
    ----------
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever and R. Salakhutdinov, "Dropout: a simple
    way to prevent neural networks from overfitting", JMLR 15, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.nn import Context, Dropout, Params
    >>> Dropout(0.2).forward(np.array([[-1.0, 2.0]]), Params({}), Context(training=False))
    array([[-1.,  2.]])
    """

    rate: float

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        return x * ctx.dropout_mask(x, self.rate) if ctx.training else x

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        return self.forward(grad_y, p, ctx), {}  # the mask is the same
