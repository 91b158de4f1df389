"""The linear step of a neuron: weigh the inputs, add a bias."""

from __future__ import annotations

import numpy as np

from .._values import frozen
from ..initializers import Initializer, he_normal, zeros
from .base import Buffer, ParamSpec, Plan, Slot


@frozen
class Dense:
    """Compute a weighted sum of all inputs for each unit.

    Forward:  ``y = x W + b``

    Backward: ``grad_W = x^T grad_y``, ``grad_b = sum over samples of grad_y``,
    ``grad_x = grad_y W^T``

    Shape: x (n_members or 1, n_samples, n_in), W (n_members, n_in, n_units),
    b (n_members, 1, n_units), y (n_members, n_samples, n_units).

    Parameters
    ----------
    n_units : int
        Number of outputs.
    weight_init, bias_init : callable, default=he_normal, zeros
        ``f(rng, shape) -> array``, the first values of W and b. Biases are never decayed.
    lr_scale, bias_lr_scale : float, default=1.0
        Factors of the learning rate of W and of b.
    """

    n_units: int
    weight_init: Initializer = he_normal
    bias_init: Initializer = zeros
    lr_scale: float = 1.0
    bias_lr_scale: float = 1.0

    is_recordable = True

    def plan(self, n_in: int) -> Plan:
        return Plan(
            n_out=self.n_units,
            params=(
                ParamSpec("W", (n_in, self.n_units), self.weight_init, lr_scale=self.lr_scale),
                ParamSpec(
                    "b",
                    (1, self.n_units),
                    self.bias_init,
                    weight_decay=False,
                    lr_scale=self.bias_lr_scale,
                ),
            ),
            buffers=(Buffer("y", self.n_units), Buffer("grad_x", n_in, kind="grad_x")),
        )

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        xp, y = slot.xp, slot.work.y
        xp.matmul(x, slot.params.W, out=y)
        xp.add_bias(y, slot.params.b)
        slot.x = x
        return y

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        xp = slot.xp
        xp.matmul(slot.x.swapaxes(1, 2), grad_y, out=slot.grads.W)
        xp.matmul(slot.ones, grad_y, out=slot.grads.b)
        if not need_grad_x:
            return grad_y
        W_T, grad_x = slot.params.W.swapaxes(1, 2), slot.work.grad_x
        if self.n_units == 1:
            return xp.multiply_outer(grad_y, W_T, grad_x)
        return xp.matmul(grad_y, W_T, out=grad_x)
