"""The cost that training lowers, as a function of logits, with its gradient.

Losses take logits, never probabilities: the sigmoid belongs to the loss, where it cancels against
the logarithm and nothing can overflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from .activations import sigmoid, softplus


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Measure how surprising the labels are under the predicted probabilities.

    With z the logit and ``a = 1 / (1 + e^-z)`` the probability of class 1, the cost of a batch of B
    rows with weights w is

    ``J = 1/B sum_i w_i (-y_i log a_i - (1 - y_i) log(1 - a_i)) = 1/B sum_i w_i (softplus(z_i) - y_i
    z_i)``

    and its gradient

    ``dJ/dz_i = w_i (a_i - y_i) / B``.

    Conventions
    -----------
    Weights are expected to have mean 1 over the whole of the training rows. Dividing by B, and not
    by the sum of the batch's own weights, keeps a heavy row heavy in a light batch, and makes a
    batch without any weight a batch without effect.

    All arrays have the shape (n_members, n_samples); `y_true` and `sample_weight` may have one
    member only. `y_true` lies in [0, 1].
    """

    def loss_gradient(
        self,
        y_true: np.ndarray,
        logits: np.ndarray,
        sample_weight: np.ndarray | None,
        gradient_out: np.ndarray,
        work: np.ndarray | Sequence[np.ndarray],
        xp: ModuleType = np,
    ) -> np.ndarray:
        """Return the mean loss of each member and write its gradient into `gradient_out`.

        Parameters
        ----------
        y_true, logits, sample_weight : ndarray of shape (n_members, n_samples)
            Labels, logits, and weights or None.
        gradient_out : ndarray of shape (n_members, n_samples)
            Receives the gradient of the mean loss with respect to the logits.
        work : ndarray of shape (2, n_members, n_samples)
            Space to compute in, as one array or two.
        xp : module, default=numpy
            The array module.

        Returns
        -------
        loss : ndarray of shape (n_members,)
        """
        loss = self.loss(y_true, logits, sample_weight, work, xp)
        sigmoid(logits, gradient_out, xp)
        xp.subtract(gradient_out, y_true, out=gradient_out)
        if sample_weight is not None:
            xp.multiply(gradient_out, sample_weight, out=gradient_out)
        xp.multiply(gradient_out, 1.0 / logits.shape[1], out=gradient_out)
        return loss

    def loss(
        self,
        y_true: np.ndarray,
        logits: np.ndarray,
        sample_weight: np.ndarray | None,
        work: np.ndarray | Sequence[np.ndarray],
        xp: ModuleType = np,
    ) -> np.ndarray:
        """Return the mean loss of each member alone; parameters as in `loss_gradient`."""
        losses, spare = work
        softplus(logits, losses, spare, xp)
        xp.multiply(y_true, logits, out=spare)
        xp.subtract(losses, spare, out=losses)
        if sample_weight is not None:
            xp.multiply(losses, sample_weight, out=losses)
        return xp.add.reduce(losses, axis=1) / logits.shape[1]
