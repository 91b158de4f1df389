"""A way past some layers, so that a deep network is no harder to train than a shallow one."""

from __future__ import annotations

import numpy as np

from .._values import frozen
from .base import Branch, Buffer, Layer, Plan, Slot, backward_through, forward_through


@frozen
class Residual:
    """Add to the input what some layers make of it.

    Forward:  ``y = x + f(x)``, f the layers one after the other

    Backward: ``grad_x = grad_y + f'(x)^T grad_y``

    The gradient reaches x undiminished whatever f is, and f only has to learn what is still missing
    in x.

    Shape: x and y (n_members, n_samples, n_units).

    Parameters
    ----------
    layers : tuple of Layer
        The layers of f, which ends with as many units as it begins with.

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep residual learning for image recognition", CVPR 2016,
    arXiv:1512.03385.
    """

    layers: tuple[Layer, ...]

    is_recordable = True

    def plan(self, n_in: int) -> Plan:
        branch = Branch(n_in, self.layers)
        if branch.n_out != n_in:
            raise ValueError(
                f"The layers of a Residual must end with as many units as they begin with, "
                f"{n_in}, got {branch.n_out}; change their widths or leave the Residual out."
            )
        buffers = (Buffer("y", n_in), Buffer("grad_x", n_in, kind="grad_x"))
        return Plan(n_in, buffers=buffers, inner=(branch,))

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        [f] = slot.inner
        return slot.xp.add(x, forward_through(f, x), out=slot.work.y)

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        [f] = slot.inner
        if not need_grad_x:
            return backward_through(f, grad_y, need_grad_x=False)
        xp, grad_x = slot.xp, slot.work.grad_x
        xp.copyto(grad_x, grad_y)  # the layers within may overwrite grad_y
        grad_f = backward_through(f, grad_y, need_grad_x=True)
        return xp.add(grad_x, grad_f, out=grad_x)
