"""Layers: what one is, dense layers, activations, dropout, normalization and embeddings.

A layer is a frozen dataclass of hyperparameters and holds no arrays. Its formulas are pure
functions of arrays of one member, of shape (n_samples, n_units), written with operators and the
functions of `skdnn.nn.functions` or NumPy's of the same names. The backward pass computes again
from the input what it needs of the forward pass: a program computes equal operations once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import numpy as np

from ..engine.ops import (
    N_BITS,
    clip,
    concat,
    cos,
    dropout_mask,
    equal,
    fused,
    maximum,
    ones_like,
    scatter_add,
    sign,
    sin,
    sqrt,
    take_rows,
)
from .activations import make_activation
from .initializers import (
    Initializer,
    Scaled,
    UniformWithin,
    he_normal,
    ones,
    standard_normal,
    zeros,
)

Array = Any
"""A NumPy array, or the symbol that stands for one while formulas are traced."""

Grads = dict[str, Array]


@dataclass(frozen=True)
class ParamSpec:
    """Describe one array of parameters: its name, shape and first values.

    A parameter that is not trainable is a statistic: the layer computes it from the batches of
    training, see `Layer.statistics`. It has no gradient, and never decays.

    Parameters
    ----------
    name : str
        The layer finds the array as ``p.name``.
    shape : tuple of int
        The shape of one member's array.
    init : callable
        ``f(rng, shape) -> array``, the first values; see `skdnn.nn.initializers`.
    weight_decay : bool, default=True
        Whether the penalty `alpha` and `weight_decay` act on it; not for biases.
    lr_scale : float, default=1.0
        Factor of the learning rate.
    trainable : bool, default=True
        Whether the backward pass returns a gradient for it.

    Examples
    --------
    >>> from skdnn.nn import ParamSpec
    >>> from skdnn.nn.initializers import ones
    >>> ParamSpec("s", (3,), ones, weight_decay=False).shape
    (3,)
    """

    name: str
    shape: tuple[int, ...]
    init: Initializer
    weight_decay: bool = True
    lr_scale: float = 1.0
    trainable: bool = True


class Params:
    """Give the parameters of a layer by name, ``p.W``; those of a layer within it are ``p[name]``.

    Parameters
    ----------
    arrays : mapping of str to array
        All parameters by their full names, such as ``"dense_1.W"``.
    prefix : str, default=""
        What the names of this layer's parameters begin with.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.nn import Params
    >>> p = Params({"dense_1.b": np.array([1.0, 2.0])})
    >>> p["dense_1"].b
    array([1., 2.])
    """

    __slots__ = ("_arrays", "_prefix")

    def __init__(self, arrays: Mapping[str, Array], prefix: str = "") -> None:
        self._arrays, self._prefix = arrays, prefix

    def __getitem__(self, name: str) -> Params:
        return Params(self._arrays, f"{self._prefix}{name}.")

    def __getattr__(self, name: str) -> Array:
        try:
            return self._arrays[self._prefix + name]
        except KeyError:
            raise AttributeError(f"There is no parameter {self._prefix + name!r}.") from None


@dataclass(frozen=True)
class Context:
    """Say whether the network is being trained, and provide what layers need then.

    The default is a prediction.

    Parameters
    ----------
    training : bool, default=False
        Whether this is training, with dropout and the statistics of the batch.
    sample_weight : array of shape (n_samples,) or None, default=None
        The weights of the rows; None means equal ones.
    take_bits : callable or None, default=None
        ``f(start, size)`` returns some of the random numbers of a step, an array (size,) of uint16.
    path : str, default=""
        The place of the layer in the network.
    bits_of : dict of str to array, default={}
        What each layer has taken of them, by its path.

    Examples
    --------
    >>> from skdnn.nn import Context
    >>> Context().training, Context(training=True).training
    (False, True)
    """

    training: bool = False
    sample_weight: Array | None = None
    take_bits: Callable[[int, int], Array] | None = None
    path: str = ""
    bits_of: dict[str, Array] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Context:
        """Return the context of a layer within this one."""
        return replace(self, path=f"{self.path}{name}.")

    def dropout_mask(self, x: Array, rate: float) -> Array:
        """Return random factors: 0 with probability `rate`, else 1 / (1 - rate).

        In a step, a layer gets the same factors in the forward and the backward pass.

        Parameters
        ----------
        x : array
            The array to multiply.
        rate : float
            The probability, in [0, 1); rounded to a multiple of 2^-16.

        Returns
        -------
        mask : array
            Of the shape of x.

        Raises
        ------
        ValueError
            If the context has no random bits.
        """
        if self.take_bits is None:
            raise ValueError("A dropout mask needs random bits; give the context some.")
        if self.path not in self.bits_of:
            n_taken = sum(map(len, self.bits_of.values()))
            self.bits_of[self.path] = self.take_bits(n_taken, math.prod(x.shape))
        bits = self.bits_of[self.path].reshape(x.shape)
        mask = dropout_mask(bits, n_dropped=min(round(rate * N_BITS), N_BITS - 1))
        return mask.astype(x.real.dtype) if isinstance(mask, np.ndarray) else mask


class Layer:
    """Return the input unchanged: the base class of layers.

    A layer of one's own is a frozen dataclass that derives from this class. It defines `params` if
    it has parameters, `n_out` if its output has another width than its input, and `forward` and
    `backward`, which are pure functions: they return new arrays and change none.
    `skdnn.check_gradients` checks `backward`.

    Shape: x (n_samples, n_in), y (n_samples, n_out).

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from sklearn.datasets import make_moons
    >>> from skdnn import DeepBinaryClassifier, check_gradients
    >>> from skdnn.nn import Layer, ParamSpec
    >>> from skdnn.nn.initializers import zeros
    >>> @dataclass(frozen=True)
    ... class Shift(Layer):
    ...     def params(self, n_in):
    ...         return (ParamSpec("b", (n_in,), zeros, weight_decay=False),)
    ...     def forward(self, x, p, ctx):
    ...         return x + p.b
    ...     def backward(self, grad_y, x, p, ctx):
    ...         return grad_y, {"b": grad_y.sum(axis=0)}
    >>> X, y = make_moons(20, random_state=0)
    >>> check_gradients(DeepBinaryClassifier((Shift(), 5), "tanh"), X, y).passed
    True
    """

    def n_out(self, n_in: int) -> int:
        """Return the number of outputs.

        Parameters
        ----------
        n_in : int
            The number of inputs.

        Returns
        -------
        n_out : int
            The number of inputs, unless a layer overrides it.
        """
        return n_in

    def params(self, n_in: int) -> tuple[ParamSpec, ...]:
        """Return the specifications of the layer's own parameters.

        Parameters
        ----------
        n_in : int
            The number of inputs.

        Returns
        -------
        specs : tuple of ParamSpec
            One for each array of parameters.
        """
        return ()

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        """Return the output.

        Parameters
        ----------
        x : array of shape (n_samples, n_in)
            The input.
        p : Params
            The parameters by name.
        ctx : Context
            Whether this is training, and what a layer needs there.

        Returns
        -------
        y : array of shape (n_samples, n_out)
            The output, a new array.
        """
        return x

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        """Return the gradients of the input and of the parameters.

        Parameters
        ----------
        grad_y : array of shape (n_samples, n_out)
            The derivative of the cost by the output.
        x : array of shape (n_samples, n_in)
            The input, as in the forward pass; so are `p` and `ctx`.
        p : Params
            The parameters by name.
        ctx : Context
            Whether this is training, and what a layer needs there.

        Returns
        -------
        grad_x : array of shape (n_samples, n_in)
            The derivative by the input.
        grads : dict of str to array
            The derivative by each trainable parameter, in its shape.
        """
        return grad_y, {}

    def statistics(self, x: Array, p: Params, ctx: Context) -> Grads:
        """Return the new values of parameters that are not trainable, after a batch of training.

        Parameters
        ----------
        x : array of shape (n_samples, n_in)
            The input.
        p : Params
            The parameters by name.
        ctx : Context
            Whether this is training, and what a layer needs there.

        Returns
        -------
        values : dict of str to array
            Those that are left out stay as they are.
        """
        return {}

    def children(self, n_in: int) -> Iterator[tuple[str, Layer, int]]:
        """Return the layers within this one: none, unless a layer overrides it.

        Parameters
        ----------
        n_in : int
            The number of inputs of this layer.

        Returns
        -------
        children : iterator of (str, Layer, int)
            The name of each layer, with which those of its parameters begin, the layer, and its
            number of inputs.
        """
        return iter(())

    def walk(self, n_in: int, path: str = "") -> Iterator[tuple[str, Layer, int]]:
        """Yield this layer and all layers within it, those within these too.

        Parameters
        ----------
        n_in : int
            The number of inputs of this layer.
        path : str, default=""
            The prefix of the names of its parameters.

        Yields
        ------
        path : str
            The prefix of the names of the layer's parameters, such as ``"residual_1.dense_1."``.
        layer : Layer
            The layer.
        n_in : int
            Its number of inputs.
        """
        yield path, self, n_in
        for name, layer, n_inner in self.children(n_in):
            yield from layer.walk(n_inner, f"{path}{name}.")


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


def _gamma_and_beta(n_units: int) -> tuple[ParamSpec, ParamSpec]:
    return (
        ParamSpec("gamma", (n_units,), ones, weight_decay=False),
        ParamSpec("beta", (n_units,), zeros, weight_decay=False),
    )


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Normalise each unit by its mean and variance over the rows of the batch.

    Forward:  ``x_hat_i = (x_i - mean) / sigma``, ``y_i = gamma x_hat_i + beta``, with
    ``mean = sum_i a_i x_i``, ``sigma^2 = sum_i a_i (x_i - mean)^2 + epsilon``

    Backward: ``grad_gamma = sum_i grad_y_i x_hat_i``, ``grad_beta = sum_i grad_y_i``,
    ``grad_x_i = gamma / sigma (grad_y_i - a_i (grad_beta + x_hat_i grad_gamma))``

    Here a_i is the weight of row i as a share of the batch's, 1 / n_samples without weights: a row
    of weight k counts as k rows do. In prediction, and in a batch of one row, which has no
    variance, running values take the place of the batch's; as they do not depend on x, then
    ``grad_x_i = gamma / sigma grad_y_i``.

    Shape: x, x_hat and y (n_samples, n_units), a (n_samples, 1), mean and sigma (1, n_units), gamma
    and beta (n_units,).

    Parameters
    ----------
    epsilon : float, default=1e-5
        Keeps the divisor of a unit that is the same in all rows off zero.
    momentum : float, default=0.1
        Share of the latest batch in the running mean and variance. The first ``1 / momentum``
        batches all count the same, so that the initial values never do.

    Notes
    -----
    The running values move by ``running += max(1 / t, momentum) (batch - running)`` in the t-th
    batch; one without any weight is normalised as if its weights were equal, and moves nothing.
    PyTorch's running variance is that of the batch times n / (n - 1), and begins at 1.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", ICML 2015, arXiv:1502.03167.

    Examples
    --------
    >>> from skdnn.nn import BatchNorm
    >>> [spec.name for spec in BatchNorm().params(8) if spec.trainable]
    ['gamma', 'beta']
    """

    epsilon: float = 1e-5
    momentum: float = 0.1

    def params(self, n_in: int) -> tuple[ParamSpec, ...]:
        return (
            *_gamma_and_beta(n_in),
            ParamSpec("running_mean", (n_in,), zeros, trainable=False),
            ParamSpec("running_variance", (n_in,), ones, trainable=False),
            ParamSpec("n_batches", (1,), zeros, trainable=False),
        )

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        x_hat, _ = self._normalize(x, p, ctx)
        return x_hat * p.gamma + p.beta

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        x_hat, sigma = self._normalize(x, p, ctx)
        grad_gamma, grad_beta = (grad_y * x_hat).sum(axis=0), grad_y.sum(axis=0)
        grad_x = grad_y
        if _is_by_batch(x, ctx):
            a, _ = _shares(x, ctx)
            grad_x = grad_y - a * (grad_beta + x_hat * grad_gamma)
        return grad_x * (p.gamma / sigma), {"gamma": grad_gamma, "beta": grad_beta}

    def statistics(self, x: Array, p: Params, ctx: Context) -> Grads:
        if not _is_by_batch(x, ctx):
            return {}
        a, has_weight = _shares(x, ctx)
        mean, variance = _moments(x, a)
        n_batches = p.n_batches + has_weight
        rate = maximum(1.0 / maximum(n_batches, 1.0), self.momentum) * has_weight
        return {
            "running_mean": p.running_mean + rate * (mean[0] - p.running_mean),
            "running_variance": p.running_variance + rate * (variance[0] - p.running_variance),
            "n_batches": n_batches,
        }

    def _normalize(self, x: Array, p: Params, ctx: Context) -> tuple[Array, Array]:
        """Return x_hat and sigma."""
        mean, variance = p.running_mean[None], p.running_variance[None]
        if _is_by_batch(x, ctx):
            mean, variance = _moments(x, _shares(x, ctx)[0])
        sigma = sqrt(variance + self.epsilon)
        return (x - mean) / sigma, sigma


@dataclass(frozen=True)
class LayerNorm(Layer):
    """Normalise each row by the mean and variance of its units.

    Forward:  ``x_hat = (x - mean(x)) / sigma``, ``y = gamma x_hat + beta``, with
    ``sigma^2 = mean((x - mean(x))^2) + epsilon`` and means over the units of a row

    Backward: ``grad_gamma = sum over samples of grad_y x_hat``, ``grad_beta = sum over samples of
    grad_y``, ``grad_x = (g - mean(g) - x_hat mean(g x_hat)) / sigma`` with ``g = gamma grad_y``

    Rows know nothing of each other: training and prediction are the same, and weights of rows have
    no part in it.

    Shape: x, x_hat and y (n_samples, n_units), means and sigma (n_samples, 1), gamma and beta
    (n_units,).

    Parameters
    ----------
    epsilon : float, default=1e-5
        Keeps the divisor of a row whose units are all the same off zero.

    References
    ----------
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016, arXiv:1607.06450.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.nn import Context, LayerNorm, Params
    >>> p = Params({"gamma": np.ones(2), "beta": np.zeros(2)})
    >>> LayerNorm(epsilon=0.0).forward(np.array([[3.0, 7.0]]), p, Context())
    array([[-1.,  1.]])
    """

    epsilon: float = 1e-5

    def params(self, n_in: int) -> tuple[ParamSpec, ...]:
        return _gamma_and_beta(n_in)

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        x_hat, _ = self._normalize(x)
        return x_hat * p.gamma + p.beta

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        x_hat, sigma = self._normalize(x)
        g = grad_y * p.gamma
        mean_g, mean_gx = (a.mean(axis=1, keepdims=True) for a in (g, g * x_hat))
        return (g - mean_g - x_hat * mean_gx) / sigma, {
            "gamma": (grad_y * x_hat).sum(axis=0),
            "beta": grad_y.sum(axis=0),
        }

    def _normalize(self, x: Array) -> tuple[Array, Array]:
        """Return x_hat and sigma."""
        centred = x - x.mean(axis=1, keepdims=True)
        sigma = sqrt((centred * centred).mean(axis=1, keepdims=True) + self.epsilon)
        return centred / sigma, sigma


def _is_by_batch(x: Array, ctx: Context) -> bool:
    return ctx.training and len(x) > 1


def _shares(x: Array, ctx: Context) -> tuple[Array, Array]:
    """Return the rows' shares a of the weight, and whether there is any: 1 or 0.

    Without any, all shares are equal.
    """
    weight = ctx.sample_weight
    if weight is None:
        return ones_like(x[:, :1]) * (1.0 / len(x)), 1.0
    weight = weight[:, None]
    total = weight.sum()
    has_weight = sign(total)
    lack = 1.0 - has_weight
    return (weight + lack) / (total + lack * len(x)), has_weight


def _moments(x: Array, a: Array) -> tuple[Array, Array]:
    """Return the mean and the variance of each unit, (1, n_units)."""
    mean = a.mT @ x
    centred = x - mean
    return mean, a.mT @ (centred * centred)


# Embeddings of numbers. Their arrays have the shape (n_in, n_functions, n_samples): loops run along
# the samples, and the small matrices of each feature are contiguous.

LOW_FREQUENCIES = Scaled(standard_normal, 0.1)
"""The first frequencies of RealMLP, for columns whose deviation is about 1."""

FARTHEST = 3.0
"""Between this number and its negative are the columns of a TabularEncoder."""


def lines(x: Array, w: Array, b: Array) -> Array:
    """Return ``w x + b`` for each function of each feature: (n_in, n_functions, n_samples).

    As one product: by fused multiplications and additions, b first, it rounds once, and steep lines
    far from zero stay exact where w x and b alone are large numbers.
    """
    columns = concat([b[:, :, None], w[:, :, None]], axis=2)
    rows = concat([ones_like(x[:, None, :]), x[:, None, :]], axis=1)
    return columns @ rows


fused_lines = fused(lambda x, w, b: (*w, x[1]), n_results=2)
"""Let executors have kernels of functions of `lines`, which return value and slope."""


@fused_lines
def cos_and_sin_turns(x: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """Return cosine and sine of ``2 pi w x + b``; x is (n_in, n_samples)."""
    u = lines(x, w * (2.0 * math.pi), b)
    return cos(u), sin(u)


@fused_lines
def piecewise_linear(x: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """Return ``min(max(w x + b, 0), 1)``, and 1 where it rises and 0 elsewhere."""
    u = lines(x, w, b)
    value = clip(u, low=0.0, high=1.0)
    return value, equal(value, u)


FUNCTIONS = {"periodic": cos_and_sin_turns, "piecewise_linear": piecewise_linear}
"""``f(U)`` and ``f'(U)``, the latter without its sign, by the kind of an embedding."""


@fused(lambda grad_C, slope, x: grad_C[:2], n_results=2)
def grad_lines(grad_C: Array, slope: Array, x: Array) -> tuple[Array, Array]:
    """Return the gradients of w and b in ``C = f(w x + b)``, with slope = f'."""
    grad_U = grad_C * slope
    return (grad_U @ x[:, :, None])[:, :, 0], grad_U.sum(axis=2)


@dataclass(frozen=True)
class NumericEmbedding(Layer):
    """Compute several learnt functions of each number, beside the number itself.

    Forward, for each feature x_i, with one row of w, b, U and C for each function: ``C = f(U)``
    where

    - periodic: ``U = 2 pi w x_i + b``, ``f(U) = cos(U)``,
    - piecewise linear: ``U = w x_i + b``, ``f(U) = min(max(U, 0), 1)``,

    and ``Z = V_i C + c_i``, ``y = [Z of the first feature, ..., Z of the last, x]``

    Backward: ``grad_V = grad_Z C^T``, ``grad_c = sum over samples of grad_Z``,
    ``grad_U = f'(U) * (V^T grad_Z)``, ``grad_b = sum over samples of grad_U``,
    ``grad_w = grad_U x_i`` and ``grad_x_i = its part of grad_y + w^T grad_U``, periodic ones
    ``2 pi`` times that; ``f'(U) = -sin(U)``, or 1 where U is within [0, 1] and 0 elsewhere

    A network is slow to learn a function that oscillates or jumps along one feature. It is a
    weighted sum of a few cosines of that feature, or of successive ramps. Cosines give smooth
    functions; ramps suit tables that suit trees: members of the two kinds make different errors.
    The periodic form is the one called PBLD: a bias within the cosine, a linear step of each
    feature's own, and the feature beside it. The other is the piecewise linear encoding.

    Shape: x (n_samples, n_in); w, b (n_in, n_functions); V (n_in, n_units, n_functions); c (n_in,
    n_units); U and C (n_in, n_functions, n_samples); Z (n_in, n_units, n_samples); y (n_samples,
    n_in (n_units + 1)).

    Parameters
    ----------
    n_functions : int, default=16
        Number of functions of a feature.
    n_units : int, default=3
        Number of weighted sums of them that go on, beside the feature itself.
    kind : {"periodic", "piecewise_linear"}, default="periodic"
        The functions.
    frequency_init : callable, default=N(0, 0.1^2)
        ``f(rng, shape) -> array``, the first w of periodic functions: periods per unit of a
        feature. Much depends on their scale; large ones let small differences in, and noise with
        them.
    lr_scale : float, default=0.1
        Factor of the learning rate of w and b.

    Raises
    ------
    ValueError
        By `params`, if there is no such kind.

    Notes
    -----
    The phases b of periodic functions are uniform in +-pi at first, V and c uniform in
    +-1/sqrt(n_functions). V decays, the others do not. Piecewise linear functions begin side by
    side between -3 and 3; before training, those of the first columns of a table are fitted to
    where the labels change.

    References
    ----------
    Y. Gorishniy, I. Rubachev and A. Babenko, "On embeddings for numerical features in tabular deep
    learning", NeurIPS 2022, arXiv:2203.05556.

    D. Holzmüller, L. Grinsztajn and I. Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024, arXiv:2407.04491.

    Examples
    --------
    >>> from skdnn.nn import NumericEmbedding
    >>> NumericEmbedding(n_functions=16, n_units=3).n_out(10)
    40
    """

    n_functions: int = 16
    n_units: int = 3
    kind: str = "periodic"
    frequency_init: Initializer = LOW_FREQUENCIES
    lr_scale: float = 0.1

    def n_out(self, n_in: int) -> int:
        return n_in * (self.n_units + 1)

    def params(self, n_in: int) -> tuple[ParamSpec, ...]:
        if self.kind not in FUNCTIONS:
            raise ValueError(f"kind must be one of {list(FUNCTIONS)}, got {self.kind!r}.")
        shape, within = (n_in, self.n_functions), UniformWithin(1.0 / math.sqrt(self.n_functions))
        inits: tuple[Initializer, Initializer] = (self.frequency_init, UniformWithin(math.pi))
        if self.kind == "piecewise_linear":
            inits = Scaled(ones, self.n_functions / (2.0 * FARTHEST)), ramp_offsets
        return (
            ParamSpec("w", shape, inits[0], False, self.lr_scale),
            ParamSpec("b", shape, inits[1], False, self.lr_scale),
            ParamSpec("V", (n_in, self.n_units, self.n_functions), within),
            ParamSpec("c", (n_in, self.n_units), within, weight_decay=False),
        )

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        C, _ = FUNCTIONS[self.kind](x.mT, p.w, p.b)
        Z = p.V @ C + p.c[:, :, None]
        return concat([Z.reshape(-1, len(x)), x.mT]).mT

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        C, slope = FUNCTIONS[self.kind](x.mT, p.w, p.b)
        n_in, n_units = p.c.shape
        turn, sign = (2.0 * math.pi, -1.0) if self.kind == "periodic" else (1.0, 1.0)
        grad_Z = grad_y.mT[: n_in * n_units].reshape(n_in, n_units, len(x))
        grad_C = (p.V * sign).mT @ grad_Z
        grad_w, grad_b = grad_lines(grad_C, slope, x.mT)
        grad_U = grad_C * slope
        grad_x = grad_y[:, n_in * n_units :] + (p.w[:, None, :] @ grad_U)[:, 0].mT * turn
        return grad_x, {
            "w": grad_w * turn,
            "b": grad_b,
            "V": grad_Z @ C.mT,
            "c": grad_Z.sum(axis=2),
        }


def ramp_offsets(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return the b of ramps side by side between -3 and 3."""
    n_functions = shape[-1]
    return np.broadcast_to(n_functions / 2.0 - np.arange(n_functions), shape)


@dataclass(frozen=True)
class CategoricalEmbedding(Layer):
    """Look up a learnt vector for each category.

    Forward:  ``y = [row x_1 of E_1, row x_2 of E_2, ...]``

    Backward: ``grad_E_j[level] = sum over the samples with x_j = level of their part of grad_y``,
    ``grad_x = 0``: nothing lies between one category and the next

    The same as a linear step over one-hot columns, without making these columns. Levels with
    similar effects end up close to each other.

    Shape: x (n_samples, len(sizes)), E_j (sizes[j], n_units[j]), y (n_samples, sum(n_units)).

    Parameters
    ----------
    sizes : tuple of int
        Number of levels of each column. Codes are integers from 0 to size - 1, stored as floats. A
        number outside counts as the first or last of them.
    n_units : tuple of int
        Number of units of each column.
    init : callable, default=N(0, 1)
        ``f(rng, shape) -> array``, the first rows. The default gives each unit the variance of a
        standardised column, as the first weights of the next layer expect.
    lr_scale : float, default=1.0
        Factor of the learning rate of the tables.
    trainable : bool, default=True
        Whether training changes the tables. Those that it does not change hold numbers that are
        known of each category.

    Raises
    ------
    ValueError
        By `params`, if there is not one size and one number of units for each column, or one of
        them is below 1.

    Notes
    -----
    The tables decay: levels that are rarely seen are drawn to zero, where they have no effect.

    References
    ----------
    C. Guo and F. Berkhahn, "Entity embeddings of categorical variables", 2016, arXiv:1604.06737.

    Examples
    --------
    >>> from skdnn.nn import CategoricalEmbedding
    >>> [spec.shape for spec in CategoricalEmbedding((50, 7), (8, 3)).params(2)]
    [(50, 8), (7, 3)]
    """

    sizes: tuple[int, ...]
    n_units: tuple[int, ...]
    init: Initializer = standard_normal
    lr_scale: float = 1.0
    trainable: bool = True

    def n_out(self, n_in: int) -> int:
        return sum(self.n_units)

    def params(self, n_in: int) -> tuple[ParamSpec, ...]:
        is_complete = len(self.sizes) == len(self.n_units) == n_in
        if not is_complete or min((*self.sizes, *self.n_units), default=1) < 1:
            raise ValueError(
                f"A CategoricalEmbedding must have one size and one number of units, of at least "
                f"1, for each of its {n_in} columns, got sizes={self.sizes!r} and "
                f"n_units={self.n_units!r}."
            )
        return tuple(
            ParamSpec(f"E_{j}", shape, self.init, lr_scale=self.lr_scale, trainable=self.trainable)
            for j, shape in enumerate(zip(self.sizes, self.n_units, strict=True), start=1)
        )

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        codes = x.mT
        tables = [getattr(p, f"E_{j}") for j in range(1, len(self.sizes) + 1)]
        return concat([take_rows(E, codes[j]) for j, E in enumerate(tables)], axis=1)

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        if not self.trainable:
            return 0.0 * x, {}
        codes, ends = x.mT, list(accumulate(self.n_units))
        return 0.0 * x, {
            f"E_{j + 1}": scatter_add(codes[j], grad_y[:, end - width : end], n_rows=size)
            for j, (size, width, end) in enumerate(zip(self.sizes, self.n_units, ends, strict=True))
        }
