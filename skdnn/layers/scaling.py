"""Let a network learn how much each of its inputs matters."""

from __future__ import annotations

import numpy as np

from .._values import frozen
from ..initializers import ones
from .base import Buffer, ParamSpec, Plan, Slot


@frozen
class FeatureScaling:
    """Multiply each input by a trainable factor of its own, which begins at 1.

    Forward:  ``y = x * s``

    Backward: ``grad_s = sum over samples of grad_y * x``, ``grad_x = grad_y * s``

    A soft choice of features. The next layer's weights could do the same, but only by moving all
    weights of a feature together; one number, trained at a higher rate, gets there sooner.

    Shape: x (n_members or 1, n_samples, n_in), s (n_members, 1, n_in), y (n_members, n_samples,
    n_in).

    Parameters
    ----------
    lr_scale : float, default=6.0
        Factor of the learning rate of s, as in the paper. It is never decayed.

    References
    ----------
    D. Holzmüller, L. Grinsztajn and I. Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024, arXiv:2407.04491.
    """

    lr_scale: float = 6.0

    is_recordable = True

    def plan(self, n_in: int) -> Plan:
        s = ParamSpec("s", (1, n_in), ones, weight_decay=False, lr_scale=self.lr_scale)
        return Plan(n_in, params=(s,), buffers=(Buffer("y", n_in),))

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        slot.x = x
        return slot.xp.multiply(x, slot.params.s, out=slot.work.y)

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        xp = slot.xp
        product = xp.multiply(grad_y, slot.x, out=slot.work.y)  # nobody needs y any more
        xp.matmul(slot.ones, product, out=slot.grads.s)
        if not need_grad_x:
            return grad_y
        return xp.multiply(grad_y, slot.params.s, out=grad_y)
