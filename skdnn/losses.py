"""The cost that training lowers, as a function of logits, with its gradient.

Losses take logits, never probabilities: the sigmoid belongs to the loss, where it cancels against
the logarithm and nothing can overflow.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ._functions import sigmoid, softplus
from ._values import frozen

BLOCK_ROWS = 8192
"""Rows whose losses are computed together, and added up before those of others."""

CERTAIN = 1e3
"""A cross-entropy at which the probability of the label is 0, and that of the other 1, to the bit.

``e^-1000`` is 0 in float64, and so in float32.
"""


class Loss(ABC):
    """Weight the losses of rows, and average them: what all losses have in common.

    A loss of its own has two methods: `losses`, the loss l of each row, and `derivative_into`, its
    derivative. The cost of a batch of B rows with weights w, and its gradient, are

    ``J = 1/B sum_i w_i l(y_i, z_i)`` and ``dJ/dz_i = w_i l'(y_i, z_i) / B``.

    Notes
    -----
    Weights are expected to have mean 1 over the whole of the training rows. Dividing by B, and not
    by the sum of the batch's own weights, keeps a heavy row heavy in a light batch, and makes a
    batch without any weight a batch without effect.

    All arrays have the shape (n_members, n_samples); `y_true` and `sample_weight` may have one
    member only, and `sample_weight` may be None for ones. `y_true` lies in [0, 1].
    """

    @abstractmethod
    def derivative_into(
        self, y_true: np.ndarray, logits: np.ndarray, out: np.ndarray, xp: Any
    ) -> np.ndarray:
        """Write the derivative of each row's loss into `out` and return it.

        A loss that says ``is_recordable`` does it by functions of `xp` alone (see `skdnn._tape`).
        """

    @abstractmethod
    def losses(self, y_true: np.ndarray, logits: np.ndarray, xp: Any = np) -> np.ndarray:
        """Return the loss of each row, without its weight."""

    def gradient(
        self,
        y_true: np.ndarray,
        logits: np.ndarray,
        sample_weight: np.ndarray | None,
        gradient_out: np.ndarray,
        xp: Any = np,
    ) -> np.ndarray:
        """Write the gradient of the cost with respect to the logits into `gradient_out`."""
        self.derivative_into(y_true, logits, gradient_out, xp)
        if sample_weight is not None:
            xp.multiply(gradient_out, sample_weight, out=gradient_out)
        return xp.multiply(gradient_out, 1.0 / logits.shape[1], out=gradient_out)

    def mean(
        self, y_true: np.ndarray, logits: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray:
        """Return the cost J of each member, in float64 whatever the dtype of the logits."""
        return self.total(y_true, logits, sample_weight) / logits.shape[1]

    def total(
        self, y_true: np.ndarray, logits: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray:
        """Return each member's weighted sum of the losses, which is J times the number of rows.

        Works through the rows in blocks, so that it needs no memory of the size of the table.
        """
        n_members, n_samples = logits.shape
        total = np.zeros(n_members)
        for start in range(0, n_samples, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            losses = self.losses(y_true[:, block], logits[:, block].astype(np.float64))
            if sample_weight is not None:
                losses *= sample_weight[:, block]
            total += losses.sum(axis=1)
        return total


@frozen
class BinaryCrossEntropy(Loss):
    """Measure how surprising the labels are under the predicted probabilities.

    With z the logit and ``a = 1 / (1 + e^-z)`` the probability of class 1, the loss of a row is

    ``l = -y log a - (1 - y) log(1 - a) = softplus(z) - y z``

    and its derivative

    ``l' = a - y``.
    """

    is_recordable = True

    def derivative_into(self, y_true, logits, out, xp):
        sigmoid(logits, out, xp)
        return xp.subtract(out, y_true, out=out)

    def losses(self, y_true, logits, xp=np):
        out = softplus(logits, xp.empty_like(logits), xp.empty_like(logits), xp)
        out -= y_true * logits
        return out


@frozen
class FocalLoss(Loss):
    """Count rows that are answered well for less than cross-entropy does.

    Use it where most rows are easy and would drown the few hard ones. With z the logit and
    ``a = 1 / (1 + e^-z)`` the probability of class 1, the cross-entropy of either label has the
    probability of the other one, to the power of gamma, as a factor:

    ``l = (1 - y) a^gamma softplus(z) + y (1 - a)^gamma softplus(-z)``.

    As ``da/dz = a (1 - a)`` and softplus has the derivative a, its derivative is

    ``l' = (1 - y) a^gamma (a + gamma (1 - a) softplus(z)) - y (1 - a)^gamma (1 - a + gamma a
    softplus(-z))``.

    With gamma 0 it is the cross-entropy.

    Notes
    -----
    The logarithms ``n = (softplus(z), softplus(-z))`` of ``1 / (1 - a)`` and ``1 / a`` are computed
    first; ``e^-n`` and ``e^(-gamma n)`` are then the probabilities and the factors. No power of a
    rounded 0 is taken, and a gradient that is nearly 0 is as exact as one that is not.

    The paper's weights alpha of the classes are left to `class_weight`. For gamma above 0 the
    probabilities at the optimum are nearer to 1/2 than the truth.

    References
    ----------
    T.-Y. Lin, P. Goyal, R. Girshick, K. He and P. Dollar, "Focal loss for dense object detection",
    ICCV 2017, arXiv:1708.02002.
    """

    gamma: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be a finite number of at least 0, got {self.gamma!r}.")

    def derivative_into(self, y_true, logits, out, xp):
        n, probabilities, factors = _cross_entropies(logits, xp)
        xp.minimum(n, CERTAIN, out=n)  # for logits so large that gamma n would overflow
        self._factors_into(n, factors, xp)
        xp.negative(n, out=probabilities)
        xp.exp(probabilities, out=probabilities)
        xp.multiply(n, probabilities, out=n)
        xp.multiply(n, self.gamma, out=n)
        xp.add(n, probabilities[::-1], out=n)
        xp.multiply(n, factors[::-1], out=n)
        xp.subtract(1.0, y_true, out=out)
        xp.multiply(out, n[0], out=out)
        xp.multiply(n[1], y_true, out=n[1])
        return xp.subtract(out, n[1], out=out)

    def losses(self, y_true, logits, xp=np):
        n, work, factors = _cross_entropies(logits, xp)
        self._factors_into(xp.minimum(n, CERTAIN, out=work), factors, xp)
        n *= factors[::-1]
        n[0] *= 1.0 - y_true
        n[1] *= y_true
        return n[0] + n[1]

    def _factors_into(self, n: np.ndarray, out: np.ndarray, xp: Any) -> np.ndarray:
        """Write ``(1 - a)^gamma`` and ``a^gamma`` into `out`, as ``e^(-gamma n)``."""
        xp.multiply(n, -self.gamma, out=out)
        return xp.exp(out, out=out)


def _cross_entropies(logits: np.ndarray, xp: Any) -> np.ndarray:
    """Return those of labels 0 and 1, first of three arrays (2, n_members, n_samples).

    They are ``-log(1 - a) = softplus(z)`` and ``-log a = softplus(-z)``. The other two arrays are
    space to compute in.
    """
    arrays = xp.empty((3, 2, *logits.shape), logits.dtype)
    n, signed, work = arrays
    xp.positive(logits, out=signed[0])
    xp.negative(logits, out=signed[1])
    softplus(signed, n, work, xp)
    return arrays


LOSSES = ("log_loss", "focal")


def make_loss(name: str, *, focal_gamma: float) -> Loss:
    """Return the loss of that name; `focal_gamma` is for "focal" alone."""
    losses: dict[str, Loss] = {
        "log_loss": BinaryCrossEntropy(),
        "focal": FocalLoss(float(focal_gamma)),
    }
    return losses[name]


def smooth_labels(y: np.ndarray, smoothing: float) -> np.ndarray:
    """Move labels towards 1/2, which the probabilities then follow.

    Where class 1 has the probability p, the cross-entropy is then least at

    ``a = p (1 - smoothing) + smoothing / 2``

    and no longer at p: the optimum is pulled towards 1/2, and is never nearer to 0 or 1 than
    ``smoothing / 2``. Which class is the likelier one does not change. The logits of rows that are
    answered well, which would otherwise grow without end, have somewhere to stop.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels in [0, 1].
    smoothing : float
        Share of the label, in [0, 1], that is replaced by 1/2. Nothing is copied if it is 0.

    Returns
    -------
    y : ndarray of shape (n_samples,)
        ``y (1 - smoothing) + smoothing / 2``, or `y` itself for 0.

    References
    ----------
    C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna, "Rethinking the Inception
    architecture for computer vision", CVPR 2016, arXiv:1512.00567.
    """
    if smoothing == 0.0:
        return y
    return y * (1.0 - smoothing) + 0.5 * smoothing
