"""The cost that training minimises, as a function of logits, with its gradient.

Losses take logits and not probabilities: within the loss, the sigmoid cancels against the
logarithm, and nothing can overflow.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.ops import exp, minimum, sigmoid
from .functions import softplus

LOSSES_AT_ONCE = 8192
"""Losses of a member that are computed and added up together: they stay in the cache."""

CERTAIN = 1e3
"""A cross-entropy at which the probability of the label is 0, and that of the other 1, to the bit.

``e^-1000`` is 0 in float64, and so in float32.
"""


class Loss(ABC):
    """Weight the losses of rows, and average them: the base class of losses.

    A loss of one's own has two methods: `loss`, the loss l of each row, and `derivative`, its
    derivative with respect to the logit; it may derive from this class, and need not. The cost of a
    batch of B rows with weights w, and its gradient, are

    ``J = 1/B sum_i w_i l(y_i, z_i)`` and ``dJ/dz_i = w_i l'(y_i, z_i) / B``.

    Shape: y, z, w, l and l' (n_samples,).

    Notes
    -----
    Weights are expected to have mean 1 over all training rows. The sum is divided by B, and not by
    the sum of the batch's weights: so a row counts the same in each batch, and a batch without any
    weight has no effect.

    Labels lie in [0, 1]; `label_smoothing` moves them off the ends.

    Examples
    --------
    >>> from skdnn.nn import Loss
    >>> from skdnn.nn.functions import sigmoid
    >>> class BrierLoss(Loss):
    ...     def loss(self, y_true, logits):
    ...         return (sigmoid(logits) - y_true) ** 2
    ...     def derivative(self, y_true, logits):
    ...         a = sigmoid(logits)
    ...         return 2.0 * (a - y_true) * a * (1.0 - a)
    """

    @abstractmethod
    def loss(self, y_true: Any, logits: Any) -> Any:
        """Return the loss of each row, without its weight.

        Parameters
        ----------
        y_true : array of shape (n_samples,)
            The labels, in [0, 1].
        logits : array of shape (n_samples,)
            The logits.

        Returns
        -------
        losses : array of shape (n_samples,)
            One for each row.
        """

    @abstractmethod
    def derivative(self, y_true: Any, logits: Any) -> Any:
        """Return the derivative of each row's loss with respect to its logit.

        Parameters
        ----------
        y_true : array of shape (n_samples,)
            The labels, in [0, 1].
        logits : array of shape (n_samples,)
            The logits.

        Returns
        -------
        derivatives : array of shape (n_samples,)
            One for each row.
        """

    def gradient(self, y_true: Any, logits: Any, sample_weight: Any) -> Any:
        """Return the gradient of the cost with respect to the logits.

        Parameters
        ----------
        y_true : array of shape (n_samples,)
            The labels, in [0, 1].
        logits : array of shape (n_samples,)
            The logits.
        sample_weight : array of shape (n_samples,) or None
            The weights of the rows; None stands for ones.

        Returns
        -------
        grad_logits : array of shape (n_samples,)
            One for each row.
        """
        derivative = self.derivative(y_true, logits)
        if sample_weight is not None:
            derivative = derivative * sample_weight
        return derivative * (1.0 / len(logits))

    def total(
        self, y_true: np.ndarray, logits: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray:
        """Return each member's weighted sum of the losses, which is J times the number of rows.

        Works through the rows in blocks, so that it needs no memory of the size of the table.

        Parameters
        ----------
        y_true : ndarray of shape (n_members, n_samples) or (1, n_samples)
            The labels, in [0, 1], of each member's rows, or the same for all.
        logits : ndarray of shape (n_members, n_samples)
            The logits.
        sample_weight : ndarray of the shape of y_true, or None
            The weights of the rows; None stands for ones.

        Returns
        -------
        totals : ndarray of shape (n_members,)
            One for each member.
        """
        n_members, n_samples = logits.shape
        total = np.zeros(n_members)
        for start in range(0, n_samples, LOSSES_AT_ONCE):
            block = slice(start, start + LOSSES_AT_ONCE)
            losses = self.loss(y_true[:, block], logits[:, block].astype(np.float64))
            if sample_weight is not None:
                losses = losses * sample_weight[:, block]
            total += losses.sum(axis=1)
        return total


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Compute the negative log-likelihood of the labels under the predicted probabilities.

    With z the logit and ``a = 1 / (1 + e^-z)`` the probability of class 1, the loss of a row is

    ``l = -y log a - (1 - y) log(1 - a) = softplus(z) - y z``

    and its derivative

    ``l' = a - y``.

    Shape: y, z, a, l and l' (n_samples,).

    References
    ----------
    I. J. Good, "Rational decisions", Journal of the Royal Statistical Society B 14, 1952.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.nn import BinaryCrossEntropy
    >>> BinaryCrossEntropy().derivative(np.array([1.0, 0.0]), np.array([0.0, 0.0]))
    array([-0.5,  0.5])
    """

    def loss(self, y_true: Any, logits: Any) -> Any:
        return softplus(logits) - y_true * logits

    def derivative(self, y_true: Any, logits: Any) -> Any:
        return sigmoid(logits) - y_true


@dataclass(frozen=True)
class FocalLoss(Loss):
    """Reduce the cross-entropy of rows that are predicted well already.

    Use it where many easy rows would dominate a few hard ones. With z the logit and
    ``a = 1 / (1 + e^-z)`` the probability of class 1, the cross-entropy of either label has the
    probability of the other one, to the power of gamma, as a factor:

    ``l = (1 - y) a^gamma softplus(z) + y (1 - a)^gamma softplus(-z)``.

    As ``da/dz = a (1 - a)`` and softplus has the derivative a, its derivative is

    ``l' = (1 - y) a^gamma (a + gamma (1 - a) softplus(z)) - y (1 - a)^gamma (1 - a + gamma a
    softplus(-z))``.

    With gamma 0 it is the cross-entropy.

    Shape: y, z, a, l and l' (n_samples,).

    Parameters
    ----------
    gamma : float
        How much less easy rows count, at least 0.

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

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.nn import FocalLoss
    >>> FocalLoss(2.0).loss(np.array([1.0]), np.array([0.0])) / np.log(2)
    array([0.25])
    """

    gamma: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be a finite number of at least 0, got {self.gamma!r}.")

    def loss(self, y_true: Any, logits: Any) -> Any:
        n0, n1, f0, f1 = self._parts(logits)
        return (1.0 - y_true) * f1 * n0 + y_true * f0 * n1

    def derivative(self, y_true: Any, logits: Any) -> Any:
        n0, n1, f0, f1 = self._parts(logits)
        n0, n1 = minimum(n0, CERTAIN), minimum(n1, CERTAIN)
        p0, p1 = exp(-n0), exp(-n1)  # the probabilities of the labels 0 and 1
        of_0 = f1 * (p1 + self.gamma * p0 * n0)
        of_1 = f0 * (p0 + self.gamma * p1 * n1)
        return (1.0 - y_true) * of_0 - y_true * of_1

    def _parts(self, logits: Any) -> tuple[Any, Any, Any, Any]:
        """Return the cross-entropies of the labels 0 and 1, and ``(1 - a)^gamma``, ``a^gamma``."""
        n0, n1 = softplus(logits), softplus(-logits)
        # For logits so large that gamma n would overflow.
        f0, f1 = (exp(-self.gamma * minimum(n, CERTAIN)) for n in (n0, n1))
        return n0, n1, f0, f1


@dataclass(frozen=True)
class OwnLoss(Loss):
    """Take the loss of a row, and its derivative, from an object that is not a `Loss`.

    Parameters
    ----------
    function : object
        Has ``loss(y_true, logits)`` and ``derivative(y_true, logits)``.
    """

    function: Any

    def loss(self, y_true: Any, logits: Any) -> Any:
        return self.function.loss(y_true, logits)

    def derivative(self, y_true: Any, logits: Any) -> Any:
        return self.function.derivative(y_true, logits)


LOSSES = ("log_loss", "focal")


def make_loss(loss: Any, *, focal_gamma: float) -> Loss:
    """Return the loss of that name, or a user's own; `focal_gamma` is for "focal" alone."""
    if not isinstance(loss, str):
        return loss if isinstance(loss, Loss) else OwnLoss(loss)
    return FocalLoss(float(focal_gamma)) if loss == "focal" else BinaryCrossEntropy()


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
