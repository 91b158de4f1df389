"""Dropout: switch random units off while training, so that no unit can rely on another."""

from __future__ import annotations

import numpy as np

from .._random import DRAWN_AT_ONCE, N_WORDS
from .._values import frozen
from .base import Buffer, Plan, Slot


@frozen
class Dropout:
    """Zero each unit with probability `rate` in training; do nothing in prediction.

    Forward:  ``y = x * mask``, with mask = 0 with probability p, else 1 / (1 - p)

    Backward: ``grad_x = grad_y * mask``, and in prediction ``grad_x = grad_y``

    The survivors are scaled up ("inverted" dropout), so that the expected output is x and
    prediction needs no correction. Each member draws from its own stream.

    Shape: x, mask and y (n_members, n_samples, n_units).

    Parameters
    ----------
    rate : float
        Probability of *dropping* a unit, in [0, 1). The random numbers have 16 bits, which are
        drawn faster than floats: p is the multiple of 2^-16 next to the rate, and below 1.

    References
    ----------
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever and R. Salakhutdinov, "Dropout: a simple
    way to prevent neural networks from overfitting", JMLR 15, 2014.
    """

    rate: float

    is_recordable = True

    def plan(self, n_in: int) -> Plan:
        return Plan(n_in, buffers=(Buffer("y", n_in), Buffer("mask", n_in, real=True)))

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        if not slot.training:
            return x
        xp, mask = slot.xp, slot.work.mask
        n_dropped = min(round(self.rate * N_WORDS), N_WORDS - 1)  # of the values of a word
        factor = N_WORDS / (N_WORDS - n_dropped)
        flat = mask.reshape(len(mask), -1)
        for start in range(0, flat.shape[1], DRAWN_AT_ONCE):
            part = flat[:, start : start + DRAWN_AT_ONCE]
            xp.mask_from_words(slot.words.draw(part.shape[1]), n_dropped, factor, part)
        return xp.multiply(x, mask, out=slot.work.y)

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        if not (need_grad_x and slot.training):
            return grad_y
        return slot.xp.multiply(grad_y, slot.work.mask, out=grad_y)
