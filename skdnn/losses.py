"""The cost that training lowers, as a function of logits, with its gradient.

Losses take logits, never probabilities: the sigmoid belongs to the loss, where it cancels against
the logarithm and nothing can overflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from .activations import sigmoid, softplus

BLOCK_ROWS = 8192


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Measure how surprising the labels are under the predicted probabilities.

    With z the logit and ``a = 1 / (1 + e^-z)`` the probability of class 1, the cost of a batch of B
    rows with weights w is

    ``J = 1/B sum_i w_i (-y_i log a_i - (1 - y_i) log(1 - a_i)) = 1/B sum_i w_i (softplus(z_i) - y_i
    z_i)``

    and its gradient

    ``dJ/dz_i = w_i (a_i - y_i) / B``.

    Notes
    -----
    Weights are expected to have mean 1 over the whole of the training rows. Dividing by B, and not
    by the sum of the batch's own weights, keeps a heavy row heavy in a light batch, and makes a
    batch without any weight a batch without effect.

    All arrays have the shape (n_members, n_samples); `y_true` and `sample_weight` may have one
    member only, and `sample_weight` may be None for ones. `y_true` lies in [0, 1].
    """

    def gradient(
        self,
        y_true: np.ndarray,
        logits: np.ndarray,
        sample_weight: np.ndarray | None,
        gradient_out: np.ndarray,
        xp: ModuleType = np,
    ) -> np.ndarray:
        """Write the gradient of the cost with respect to the logits into `gradient_out`."""
        sigmoid(logits, gradient_out, xp)
        xp.subtract(gradient_out, y_true, out=gradient_out)
        if sample_weight is not None:
            xp.multiply(gradient_out, sample_weight, out=gradient_out)
        return xp.multiply(gradient_out, 1.0 / logits.shape[1], out=gradient_out)

    def losses(self, y_true: np.ndarray, logits: np.ndarray, xp: ModuleType = np) -> np.ndarray:
        """Return the loss of each row, without its weight."""
        out = softplus(logits, xp.empty_like(logits), xp.empty_like(logits), xp)
        out -= y_true * logits
        return out

    def mean(
        self, y_true: np.ndarray, logits: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray:
        """Return the cost J of each member, in float64 whatever the dtype of the logits.

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
        return total / n_samples
