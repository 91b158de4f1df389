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

    is_recordable = True

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
        if not hasattr(work, "sigma"):
            _make_room(slot)
        mean, variance = params.running_mean, params.running_variance
        if _is_by_batch(slot):
            _share_out(slot)
            shares = work.share.swapaxes(1, 2)
            mean = xp.matmul(shares, x, out=work.mean)
            xp.subtract(x, mean, out=work.x_hat)
            xp.multiply(work.x_hat, work.x_hat, out=work.y)
            variance = xp.matmul(shares, work.y, out=work.variance)
            self._follow(slot)
        else:
            xp.subtract(x, mean, out=work.x_hat)
        xp.add(variance, self.epsilon, out=work.sigma)
        xp.sqrt(work.sigma, out=work.sigma)
        xp.divide(work.x_hat, work.sigma, out=work.x_hat)
        return _scale_and_shift(slot)

    def _follow(self, slot: Slot) -> None:
        """Move the running values towards those of a batch that has any weight."""
        xp, work, params = slot.xp, slot.work, slot.params
        xp.add(params.n_batches, work.has_weight, out=params.n_batches)
        rate = xp.maximum(params.n_batches, 1.0, out=work.rate)
        xp.reciprocal(rate, out=rate)
        xp.maximum(rate, self.momentum, out=rate)
        xp.multiply(rate, work.has_weight, out=rate)
        running = (params.running_mean, params.running_variance)
        for value, of_batch in zip(running, (work.mean, work.variance), strict=True):
            xp.subtract(of_batch, value, out=work.by_unit)
            xp.multiply(work.by_unit, rate, out=work.by_unit)
            xp.add(value, work.by_unit, out=value)

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
        xp.divide(slot.params.gain, work.sigma, out=work.by_unit)
        return xp.multiply(grad_y, work.by_unit, out=grad_y)


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

    is_recordable = True

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
    work = slot.work
    if not hasattr(work, "average"):
        n_units = work.y.shape[2]
        work.average = np.full((n_units, 1), 1.0 / n_units, work.y.dtype)
    return work.average


def _is_by_batch(slot: Slot) -> bool:
    return slot.training and slot.ones.shape[2] > 1


def _make_room(slot: Slot) -> None:
    """Make the arrays of a BatchNorm that hold one number for each unit, or for each member."""
    work, params = slot.work, slot.params
    for name in ("mean", "variance", "sigma", "by_unit"):
        setattr(work, name, np.empty_like(params.gain))
    work.rate = np.empty_like(params.n_batches)
    for name in ("total", "has_weight", "lack"):
        setattr(work, name, np.empty(params.n_batches.shape, work.share.dtype))
    work.column = np.ones_like(work.share)


def _share_out(slot: Slot) -> None:
    """Write the rows' shares of the weight, and 1 for members with any, 0 for the others."""
    xp, work, weight = slot.xp, slot.work, slot.batch.sample_weight
    share, has_weight, total, lack = work.share, work.has_weight, work.total, work.lack
    if weight is None:
        xp.copyto(share, 1.0 / share.shape[1])
        xp.copyto(has_weight, 1.0)
        return
    xp.matmul(weight[:, np.newaxis], work.column, out=total)
    xp.sign(total, out=has_weight)
    # Where there is no weight, each row gets 1.
    xp.subtract(1.0, has_weight, out=lack)
    xp.add(weight[:, :, np.newaxis], lack, out=share)
    xp.multiply(lack, share.shape[1], out=lack)
    xp.add(total, lack, out=total)
    xp.divide(share, total, out=share)
