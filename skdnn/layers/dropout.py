"""Dropout: switch random units off while training, so that no unit can rely on another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import Buffer, Plan, Slot


@dataclass(frozen=True)
class Dropout:
    """Zero each unit with probability `rate` in training; do nothing in prediction.

    Forward:  ``y = x * mask``, with mask = 0 with probability `rate`, else 1 / (1 - rate)

    Backward: ``grad_x = grad_y * mask``, and in prediction ``grad_x = grad_y``

    The survivors are scaled up ("inverted" dropout), so that the expected output is x and
    prediction needs no correction. Each member draws from its own stream.

    Shape: x, mask and y (n_members, n_samples, n_units).

    Parameters
    ----------
    rate : float
        Probability of *dropping* a unit, in [0, 1).

    References
    ----------
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever and R. Salakhutdinov, "Dropout: a simple
    way to prevent neural networks from overfitting", JMLR 15, 2014.
    """

    rate: float

    def plan(self, n_in: int) -> Plan:
        return Plan(n_in, buffers=(Buffer("y", n_in), Buffer("mask", n_in, real=True)))

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        if not slot.training:
            return x
        xp, mask = slot.xp, slot.work.mask
        for rng, member_mask in zip(slot.rngs, mask, strict=True):
            rng.random(out=member_mask, dtype=member_mask.dtype.type)
        xp.greater_equal(mask, self.rate, out=mask)
        xp.multiply(mask, 1.0 / (1.0 - self.rate), out=mask)
        return xp.multiply(x, mask, out=slot.work.y)

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        if not (need_grad_x and slot.training):
            return grad_y
        return slot.xp.multiply(grad_y, slot.work.mask, out=grad_y)
