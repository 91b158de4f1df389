"""Bring units to mean 0 and variance 1, over the rows of a batch or over the units of a row.

Both layers end alike: a trainable gamma and beta give back whatever scale the next layer wants.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...engine.ops import maximum, ones_like, sign, sqrt
from ..initializers import ones, zeros
from .base import Array, Context, Grads, Layer, Params, ParamSpec


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
