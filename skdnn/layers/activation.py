"""The non-linear step of a neuron, applied to each unit by itself."""

from __future__ import annotations

import numpy as np

from .._tape import is_recordable
from .._values import frozen
from ..activations import Activation as ActivationFunction
from .base import Buffer, Plan, Slot


@frozen
class Activation:
    """Apply an activation function element by element.

    Forward:  ``y = g(x)``

    Backward: ``grad_x = grad_y * g'(x)``

    Shape: x and y (n_members, n_samples, n_units).

    Parameters
    ----------
    function : activation function
        What `skdnn.activations.make_activation` returns.
    """

    function: ActivationFunction

    @property
    def is_recordable(self) -> bool:
        """Whether the function is."""
        return is_recordable(self.function)

    def plan(self, n_in: int) -> Plan:
        return Plan(
            n_out=n_in,
            buffers=(
                Buffer("y", n_in),
                Buffer("slope", n_in, kind="scratch"),
                Buffer("spare", n_in, "forward" if self.function.keeps_work else "scratch"),
            ),
        )

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        slot.x = x
        return self.function.value_into(x, slot.work.y, slot.work.spare, slot.xp)

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        if not need_grad_x:
            return grad_y
        work = slot.work
        return self.function.backward_into(grad_y, slot.x, work.y, work.slope, work.spare, slot.xp)
