"""The layers of a plain network: dense layers, activations, dropout and factors of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..activations import make_activation
from ..initializers import Initializer, he_normal, ones, zeros
from .base import Array, Context, Grads, Layer, Params, ParamSpec


@dataclass(frozen=True)
class Dense(Layer):
    """Compute a weighted sum of all inputs for each unit.

    Forward:  ``y = x W + b``

    Backward: ``grad_W = x^T grad_y``, ``grad_b = sum over samples of grad_y``,
    ``grad_x = grad_y W^T``

    Shape: x (n_samples, n_in), W (n_in, n_units), b (n_units,), y (n_samples, n_units).

    Parameters
    ----------
    n_units : int
        Number of outputs.
    weight_init, bias_init : callable, default=he_normal, zeros
        ``f(rng, shape) -> array``, the first values of W and b. Biases are never decayed.
    lr_scale, bias_lr_scale : float, default=1.0
        Factors of the learning rate of W and of b.

    References
    ----------
    D. E. Rumelhart, G. E. Hinton and R. J. Williams, "Learning representations by back-propagating
    errors", Nature 323, 1986.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.nn import Context, Dense, Params
    >>> p = Params({"W": np.array([[1.0, 2.0]]), "b": np.array([0.0, 1.0])})
    >>> Dense(2).forward(np.array([[3.0]]), p, Context())
    array([[3., 7.]])
    """

    n_units: int
    weight_init: Initializer = he_normal
    bias_init: Initializer = zeros
    lr_scale: float = 1.0
    bias_lr_scale: float = 1.0

    def n_out(self, n_in: int) -> int:
        return self.n_units

    def params(self, n_in: int) -> tuple[ParamSpec, ...]:
        return (
            ParamSpec("W", (n_in, self.n_units), self.weight_init, lr_scale=self.lr_scale),
            ParamSpec("b", (self.n_units,), self.bias_init, False, self.bias_lr_scale),
        )

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        return x @ p.W + p.b

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        return grad_y @ p.W.mT, {"W": x.mT @ grad_y, "b": grad_y.sum(axis=0)}


@dataclass(frozen=True)
class FeatureScaling(Layer):
    """Multiply each input by a trainable factor of its own, which begins at 1.

    Forward:  ``y = x * s``

    Backward: ``grad_s = sum over samples of grad_y * x``, ``grad_x = grad_y * s``

    It selects features softly. The next layer's weights could do the same, but only if all weights
    of a feature move together; one factor, trained at a higher rate, learns it sooner.

    Shape: x and y (n_samples, n_in), s (n_in,).

    Parameters
    ----------
    lr_scale : float, default=6.0
        Factor of the learning rate of s, as in the paper. It is never decayed.

    References
    ----------
    D. Holzmüller, L. Grinsztajn and I. Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024, arXiv:2407.04491.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.nn import Context, FeatureScaling, Params
    >>> p = Params({"s": np.array([1.0, 0.5])})
    >>> FeatureScaling().forward(np.array([[3.0, 4.0]]), p, Context())
    array([[3., 2.]])
    """

    lr_scale: float = 6.0

    def params(self, n_in: int) -> tuple[ParamSpec, ...]:
        return (ParamSpec("s", (n_in,), ones, weight_decay=False, lr_scale=self.lr_scale),)

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        return x * p.s

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        return grad_y * p.s, {"s": (grad_y * x).sum(axis=0)}


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

    The other units are scaled up ("inverted" dropout), so that the expected output is x and
    prediction needs no correction. Each member has random numbers of its own.

    Shape: x, mask and y (n_samples, n_units).

    Parameters
    ----------
    rate : float
        Probability of *dropping* a unit, in [0, 1). The random numbers have 16 bits, which are
        drawn faster than floats: p is the rate, rounded to a multiple of 2^-16 below 1.

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
