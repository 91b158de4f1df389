"""Bring units to mean 0 and variance 1, over the rows of a batch or over the units of a row.

Both layers end alike: a trainable gain and shift give back whatever scale the next layer wants.
"""

from __future__ import annotations

import numpy as np

from .._values import frozen
from ..initializers import ones, zeros
from .base import Buffer, ParamSpec, Plan, Slot


@frozen
class BatchNorm:
    """Normalise each unit by its mean and variance over the rows of the batch.

    Forward:  ``x_hat_i = (x_i - mean) / sigma``, ``y_i = gain x_hat_i + shift``, with
    ``mean = sum_i a_i x_i``, ``sigma^2 = sum_i a_i (x_i - mean)^2 + epsilon``

    Backward: ``grad_gain = sum_i grad_y_i x_hat_i``, ``grad_shift = sum_i grad_y_i``,
    ``grad_x_i = gain / sigma (grad_y_i - a_i (grad_shift + x_hat_i grad_gain))``

    Here a_i is the weight of row i as a share of the batch's, 1 / n_samples without weights: a row
    of weight k counts as k rows do. In prediction, and in a batch of one row, which has no
    variance, running values take the place of the batch's; as they do not depend on x, then
    ``grad_x_i = gain / sigma grad_y_i``.

    Shape: x, x_hat and y (n_members, n_samples, n_units), a (n_members, n_samples, 1), mean, sigma,
    gain and shift (n_members, 1, n_units).

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
    """

    epsilon: float = 1e-5
    momentum: float = 0.1

    def plan(self, n_in: int) -> Plan:
        statistics = (
            ParamSpec("running_mean", (1, n_in), zeros, trainable=False),
            ParamSpec("running_variance", (1, n_in), ones, trainable=False),
            ParamSpec("n_batches", (1, 1), zeros, trainable=False),
        )
        return Plan(
            n_in,
            params=(*_gain_and_shift(n_in), *statistics),
            buffers=(Buffer("y", n_in), Buffer("x_hat", n_in), Buffer("share", 1, real=True)),
        )

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        xp, work, params = slot.xp, slot.work, slot.params
        if _is_by_batch(slot):
            has_weight = _share_out(slot)
            shares = work.share.swapaxes(1, 2)
            mean = xp.matmul(shares, x)
            xp.subtract(x, mean, out=work.x_hat)
            xp.multiply(work.x_hat, work.x_hat, out=work.y)
            variance = xp.matmul(shares, work.y)
            params.n_batches += has_weight
            rate = has_weight * xp.maximum(1.0 / xp.maximum(params.n_batches, 1.0), self.momentum)
            params.running_mean += rate * (mean - params.running_mean)
            params.running_variance += rate * (variance - params.running_variance)
        else:
            variance = params.running_variance
            xp.subtract(x, params.running_mean, out=work.x_hat)
        work.sigma = xp.sqrt(variance + self.epsilon)
        xp.divide(work.x_hat, work.sigma, out=work.x_hat)
        return _scale_and_shift(slot)

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        xp, work, grads = slot.xp, slot.work, slot.grads
        _fill_gain_and_shift(grad_y, slot)
        if not need_grad_x:
            return grad_y
        if _is_by_batch(slot):
            pull = xp.multiply(work.x_hat, grads.gain, out=work.y)
            xp.add(pull, grads.shift, out=pull)
            xp.multiply(pull, work.share, out=pull)
            xp.subtract(grad_y, pull, out=grad_y)
        return xp.multiply(grad_y, slot.params.gain / work.sigma, out=grad_y)


@frozen
class LayerNorm:
    """Normalise each row by the mean and variance of its units.

    Forward:  ``x_hat = (x - mean(x)) / sigma``, ``y = gain x_hat + shift``, with
    ``sigma^2 = mean((x - mean(x))^2) + epsilon`` and means over the units of a row

    Backward: ``grad_gain = sum over samples of grad_y x_hat``, ``grad_shift = sum over samples of
    grad_y``, ``grad_x = (g - mean(g) - x_hat mean(g x_hat)) / sigma`` with ``g = gain grad_y``

    Rows know nothing of each other: training and prediction are the same, and weights of rows have
    no part in it.

    Shape: x, x_hat and y (n_members, n_samples, n_units), means and sigma (n_members, n_samples,
    1), gain and shift (n_members, 1, n_units).

    Parameters
    ----------
    epsilon : float, default=1e-5
        Keeps the divisor of a row whose units are all the same off zero.

    References
    ----------
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016, arXiv:1607.06450.
    """

    epsilon: float = 1e-5

    def plan(self, n_in: int) -> Plan:
        return Plan(
            n_in,
            params=_gain_and_shift(n_in),
            buffers=(
                Buffer("y", n_in),
                Buffer("x_hat", n_in),
                Buffer("sigma", 1),
                Buffer("mean", 1, kind="scratch"),
            ),
        )

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        xp, work = slot.xp, slot.work
        average = _average(slot)
        xp.subtract(x, xp.matmul(x, average, out=work.mean), out=work.x_hat)
        xp.multiply(work.x_hat, work.x_hat, out=work.y)
        xp.matmul(work.y, average, out=work.sigma)
        xp.add(work.sigma, self.epsilon, out=work.sigma)
        xp.sqrt(work.sigma, out=work.sigma)
        xp.divide(work.x_hat, work.sigma, out=work.x_hat)
        return _scale_and_shift(slot)

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        xp, work = slot.xp, slot.work
        _fill_gain_and_shift(grad_y, slot)
        if not need_grad_x:
            return grad_y
        average, product = _average(slot), work.y
        g = xp.multiply(grad_y, slot.params.gain, out=grad_y)
        xp.multiply(g, work.x_hat, out=product)
        xp.matmul(product, average, out=work.mean)
        xp.multiply(work.x_hat, work.mean, out=product)
        xp.matmul(g, average, out=work.mean)
        xp.subtract(g, work.mean, out=g)
        xp.subtract(g, product, out=g)
        return xp.divide(g, work.sigma, out=g)


def _gain_and_shift(n_units: int) -> tuple[ParamSpec, ParamSpec]:
    return (
        ParamSpec("gain", (1, n_units), ones, weight_decay=False),
        ParamSpec("shift", (1, n_units), zeros, weight_decay=False),
    )


def _scale_and_shift(slot: Slot) -> np.ndarray:
    """Compute ``y = gain x_hat + shift``."""
    xp, y = slot.xp, slot.work.y
    xp.multiply(slot.work.x_hat, slot.params.gain, out=y)
    return xp.add(y, slot.params.shift, out=y)


def _fill_gain_and_shift(grad_y: np.ndarray, slot: Slot) -> None:
    """Write the gradients of gain and shift; y, which nobody needs any more, is overwritten."""
    xp, product = slot.xp, slot.work.y
    xp.multiply(grad_y, slot.work.x_hat, out=product)
    xp.matmul(slot.ones, product, out=slot.grads.gain)
    xp.matmul(slot.ones, grad_y, out=slot.grads.shift)


def _average(slot: Slot) -> np.ndarray:
    """Return the column (n_units, 1) by which a product takes the mean over the units."""
    n_units = slot.work.y.shape[2]
    return slot.xp.full((n_units, 1), 1.0 / n_units, slot.work.y.dtype)


def _is_by_batch(slot: Slot) -> bool:
    return slot.training and slot.ones.shape[2] > 1


def _share_out(slot: Slot) -> np.ndarray | float:
    """Write the rows' shares of the weight; return 1 for members with any, 0 for the others."""
    xp, share, weight = slot.xp, slot.work.share[:, :, 0], slot.batch.sample_weight
    share.fill(1.0 / share.shape[1])
    if weight is None:
        return 1.0
    total = weight.sum(axis=1, keepdims=True)
    has_weight = total > 0.0
    xp.divide(weight, total, out=share, where=has_weight)
    return has_weight[:, :, np.newaxis].astype(weight.dtype)
